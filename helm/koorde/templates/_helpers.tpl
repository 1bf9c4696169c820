{{/* Names. A StatefulSet's name is at most 52 characters: its pods carry it in a label, with a hash. */}}
{{- define "koorde.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "koorde.fullname" -}}
{{- $name := include "koorde.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "koorde.headless" -}}
{{ include "koorde.fullname" . }}-headless
{{- end -}}

{{/* The domain under which every node has a name. */}}
{{- define "koorde.domain" -}}
{{ include "koorde.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "koorde.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "koorde.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels. Selectors can't be changed later, so they have as little as tells the pods apart. */}}
{{- define "koorde.selector" -}}
app.kubernetes.io/name: {{ include "koorde.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "koorde.nodes" -}}
{{ include "koorde.selector" . }}
app.kubernetes.io/component: node
{{- end -}}

{{/* Labels of the nodes' pods. No version of the chart: a new chart alone restarts nobody. */}}
{{- define "koorde.podLabels" -}}
{{- $own := merge (include "koorde.nodes" . | fromYaml) (dict "app.kubernetes.io/part-of" "koorde") (include "koorde.notInjected" . | fromYaml) -}}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) -}}
{{- end -}}

{{/* Takes (list . "component"). */}}
{{- define "koorde.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "koorde.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/component" (index . 1)
  "app.kubernetes.io/part-of" "koorde"
  "app.kubernetes.io/version" ($root.Values.image.tag | default $root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- toYaml (merge $own $root.Values.commonLabels) -}}
{{- end -}}

{{/* The metadata of an object: takes (list . name component annotations labels), the last two may be missing. */}}
{{- define "koorde.metadata" -}}
{{- $root := index . 0 -}}
{{- $annotations := dict -}}
{{- if gt (len .) 3 -}}{{- $annotations = index . 3 | default dict -}}{{- end -}}
{{- $labels := include "koorde.labels" (list $root (index . 2)) | fromYaml -}}
{{- if gt (len .) 4 -}}{{- $labels = merge (dict) $labels (index . 4 | default dict) -}}{{- end -}}
name: {{ index . 1 | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with merge (dict) $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "koorde.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{- define "koorde.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* What `helm test` and the workload Job share with the nodes. */}}
{{- define "koorde.oneShot" -}}
{{- $root := . -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with include "koorde.pullSecrets" $root }}
{{ . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
