{{/*
Reading what people write, for the relations that _validate.tpl holds: Kubernetes' quantities, the
node's sizes and durations. Each takes (list "key" value) and gives a whole number, or names the key.
*/}}

{{/* Bytes of a quantity: 512Mi, 1.5G, 1000000. */}}
{{- define "koorde.quantity" -}}
{{- $text := index . 1 | toString -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $number := trimSuffix $unit $text -}}
{{- if not (and (hasKey $units $unit) (regexMatch "^[0-9]+(\\.[0-9]+)?$" $number)) -}}
{{- fail (printf "%s = %s: must be a quantity such as 512Mi or 2Gi" (index . 0) $text) -}}
{{- end -}}
{{- mulf (float64 $number) (get $units $unit) | floor | int64 -}}
{{- end -}}

{{/* Bytes of a node's size: 256MiB, 64kB, 1024. */}}
{{- define "koorde.size" -}}
{{- $text := index . 1 | toString | nospace -}}
{{- $units := dict "" 1 "b" 1 "kb" 1000 "mb" 1000000 "gb" 1000000000 "kib" 1024 "mib" 1048576 "gib" 1073741824 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $number := trimSuffix $unit $text -}}
{{- if not (and (hasKey $units (lower $unit)) (regexMatch "^[0-9]+(\\.[0-9]+)?$" $number)) -}}
{{- fail (printf "%s = %s: must be a size such as 256MiB, 64kB or 1024" (index . 0) $text) -}}
{{- end -}}
{{- mulf (float64 $number) (get $units (lower $unit)) | floor | int64 -}}
{{- end -}}

{{/* Seconds of a node's duration, each part rounded up: 15s, 1m 30s, 500ms. */}}
{{- define "koorde.seconds" -}}
{{- $text := index . 1 | toString | nospace -}}
{{- if not (regexMatch "^([0-9]+(ms|s|sec|m|min|h))+$" $text) -}}
{{- fail (printf "%s = %s: must be a duration such as 15s, 1m30s or 500ms" (index . 0) $text) -}}
{{- end -}}
{{- $seconds := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" $text -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $count := regexFind "[0-9]+" . | int64 -}}
{{- if eq $unit "ms" -}}{{- $seconds = add $seconds (div (add $count 999) 1000) -}}
{{- else -}}{{- $seconds = add $seconds (mul $count (get (dict "s" 1 "sec" 1 "m" 60 "min" 60 "h" 3600) $unit)) -}}
{{- end -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* Nodes of a number or a percentage of all of them: takes (list value all "up"|"down"). */}}
{{- define "koorde.count" -}}
{{- $text := index . 0 | toString -}}
{{- if hasSuffix "%" $text -}}
{{- $product := mul (trimSuffix "%" $text | int) (index . 1) -}}
{{- if eq (index . 2) "up" -}}{{- div (add $product 99) 100 -}}{{- else -}}{{- div $product 100 -}}{{- end -}}
{{- else -}}
{{- int $text -}}
{{- end -}}
{{- end -}}
