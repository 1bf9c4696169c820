// Command admission does to pods what an API server does to them for admission policies, with the API server's own
// code: it reads {"documents": […], "namespace": {…}, "pods": […]} from stdin and writes what became of each pod.
//
// A policy of the tests must compile as one that is newly written, which is stricter than one that is there already.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	apiscel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type input struct {
	Documents []json.RawMessage `json:"documents"`
	Namespace core.Namespace    `json:"namespace"`
	Pods      []json.RawMessage `json:"pods"`
	// Kubernetes' minor version for validating policies.
	Minor uint `json:"minor"`
}

// What became of a pod.
type output struct {
	Pod *core.Pod `json:"pod"`
	// The policies and webhooks that it matched.
	Matched  []string `json:"matched"`
	Messages []string `json:"messages"`
}

// A policy or webhook by what it asks of labels, and of pods.
type chosen struct {
	name              string
	namespace, object *meta.LabelSelector
	conditions        []admissionregistration.MatchCondition
	mutating          *admissionregistration.MutatingAdmissionPolicy
	validating        *admissionregistration.ValidatingAdmissionPolicy
	failurePolicy     *admissionregistration.FailurePolicyType
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fail(err)
	}
	all, err := read(in.Documents)
	if err != nil {
		fail(err)
	}
	outputs := []output{}
	for _, raw := range in.Pods {
		pod := &core.Pod{}
		if err := json.Unmarshal(raw, pod); err != nil {
			fail(err)
		}
		pod.TypeMeta = meta.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		out, err := admit(all, &in, pod)
		if err != nil {
			fail(err)
		}
		outputs = append(outputs, out)
	}
	if err := json.NewEncoder(os.Stdout).Encode(outputs); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Bindings with their policies, and webhooks.
func read(documents []json.RawMessage) ([]chosen, error) {
	all := []chosen{}
	mutating := map[string]*admissionregistration.MutatingAdmissionPolicy{}
	checks := map[string]*admissionregistration.ValidatingAdmissionPolicy{}
	for _, pass := range []string{"policies", "bindings"} {
		for _, raw := range documents {
			var of meta.TypeMeta
			if err := json.Unmarshal(raw, &of); err != nil {
				return nil, err
			}
			var err error
			switch {
			case pass == "policies" && of.Kind == "MutatingAdmissionPolicy":
				policy := &admissionregistration.MutatingAdmissionPolicy{}
				err = json.Unmarshal(raw, policy)
				mutating[policy.Name] = policy
			case pass == "policies" && of.Kind == "ValidatingAdmissionPolicy":
				policy := &admissionregistration.ValidatingAdmissionPolicy{}
				err = json.Unmarshal(raw, policy)
				checks[policy.Name] = policy
			case pass == "bindings" && of.Kind == "MutatingAdmissionPolicyBinding":
				b := admissionregistration.MutatingAdmissionPolicyBinding{}
				err = json.Unmarshal(raw, &b)
				policy := mutating[b.Spec.PolicyName]
				if err == nil && policy == nil {
					err = fmt.Errorf("%s: there is no policy %s", b.Name, b.Spec.PolicyName)
				}
				if err == nil {
					all = append(all, chosen{b.Name, b.Spec.MatchResources.NamespaceSelector, b.Spec.MatchResources.ObjectSelector,
						policy.Spec.MatchConditions, policy, nil, policy.Spec.FailurePolicy})
				}
			case pass == "bindings" && of.Kind == "ValidatingAdmissionPolicyBinding":
				b := admissionregistration.ValidatingAdmissionPolicyBinding{}
				err = json.Unmarshal(raw, &b)
				policy := checks[b.Spec.PolicyName]
				if err == nil && policy == nil {
					err = fmt.Errorf("%s: there is no policy %s", b.Name, b.Spec.PolicyName)
				}
				if err == nil {
					all = append(all, chosen{b.Name, b.Spec.MatchResources.NamespaceSelector, b.Spec.MatchResources.ObjectSelector,
						policy.Spec.MatchConditions, nil, policy, policy.Spec.FailurePolicy})
				}
			case pass == "bindings" && of.Kind == "MutatingWebhookConfiguration":
				c := admissionregistration.MutatingWebhookConfiguration{}
				err = json.Unmarshal(raw, &c)
				for _, w := range c.Webhooks {
					all = append(all, chosen{w.Name, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions, nil, nil, w.FailurePolicy})
				}
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Mutating policies until nothing changes any more, then the validating ones.
func admit(all []chosen, in *input, pod *core.Pod) (output, error) {
	out := output{Matched: []string{}, Messages: []string{}}
	for range 2 {
		for _, one := range all {
			if one.validating != nil || !selects(one, in, pod) {
				continue
			}
			changed, matched, err := mutate(one, in, pod)
			if err != nil {
				return out, fmt.Errorf("%s: %s: %w", one.name, pod.Name, err)
			}
			if matched {
				out.Matched = append(out.Matched, one.name)
			}
			pod = changed
		}
	}
	for _, one := range all {
		if one.validating == nil || !selects(one, in, pod) {
			continue
		}
		messages, err := validate(one, in, pod)
		if err != nil {
			return out, fmt.Errorf("%s: %s: %w", one.name, pod.Name, err)
		}
		out.Messages = append(out.Messages, messages...)
	}
	out.Pod = pod
	return out, nil
}

func selects(one chosen, in *input, pod *core.Pod) bool {
	return is(one.namespace, in.Namespace.Labels) && is(one.object, pod.Labels)
}

func is(selector *meta.LabelSelector, of map[string]string) bool {
	if selector == nil {
		return true
	}
	made, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		fail(err)
	}
	return made.Matches(labels.Set(of))
}

func mutate(one chosen, in *input, pod *core.Pod) (*core.Pod, bool, error) {
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, false, err
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	if one.mutating != nil {
		variables(compiler, one.mutating.Spec.Variables, options)
	}
	attributes, scheme, err := versioned(in, pod)
	if err != nil {
		return nil, false, err
	}
	ctx := compiler.CreateContext(context.Background())
	matcher := matcherOf(compiler, one, options)
	result := matcher.Match(ctx, attributes, nil, nil)
	if result.Error != nil {
		return nil, false, result.Error
	}
	if !result.Matches || one.mutating == nil {
		return pod, result.Matches, nil
	}
	options.HasPatchTypes = true
	for _, mutation := range one.mutating.Spec.Mutations {
		if mutation.JSONPatch == nil {
			return nil, false, errors.New("only JSON patches are known here")
		}
		condition := &patch.JSONPatchCondition{Expression: mutation.JSONPatch.Expression}
		evaluator := compiler.CompileMutatingEvaluator(condition, options, environment.NewExpressions)
		changed, err := patch.NewJSONPatcher(evaluator).Patch(ctx, patch.Request{
			MatchedResource:     resource,
			VersionedAttributes: attributes,
			ObjectInterfaces:    admission.NewObjectInterfacesFromScheme(scheme),
			Namespace:           &in.Namespace,
		}, apiscel.RuntimeCELCostBudget)
		if err != nil {
			return nil, false, err
		}
		attributes.VersionedObject = changed
	}
	return attributes.VersionedObject.(*core.Pod), true, nil
}

func validate(one chosen, in *input, pod *core.Pod) ([]string, error) {
	written := environment.DefaultCompatibilityVersion()
	if in.Minor != 0 {
		// A server takes what the version before it knew.
		written = version.MajorMinor(1, in.Minor-1)
	}
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(written))
	if err != nil {
		return nil, err
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	variables(compiler, one.validating.Spec.Variables, options)
	conditions, texts := []cel.ExpressionAccessor{}, []cel.ExpressionAccessor{}
	for _, v := range one.validating.Spec.Validations {
		conditions = append(conditions, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason})
		var text cel.ExpressionAccessor
		if v.MessageExpression != "" {
			text = &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
		texts = append(texts, text)
	}
	compile := func(accessors []cel.ExpressionAccessor) cel.ConditionEvaluator {
		return compiler.CompileCondition(accessors, options, environment.NewExpressions)
	}
	strict := admissionregistration.Fail
	validator := validating.NewValidator(compile(conditions), matcherOf(compiler, one, options), compile(nil), compile(texts), &strict, nil)
	attributes, _, err := versioned(in, pod)
	if err != nil {
		return nil, err
	}
	ctx := compiler.CreateContext(context.Background())
	result := validator.Validate(ctx, resource, attributes, nil, &in.Namespace, apiscel.RuntimeCELCostBudget, nil)
	messages := []string{}
	for _, decision := range result.Decisions {
		if decision.Evaluation == validating.EvalError {
			return nil, errors.New(decision.Message)
		}
		if decision.Action == validating.ActionDeny {
			messages = append(messages, decision.Message)
		}
	}
	return messages, nil
}

func variables(compiler *cel.CompositedCompiler, all []admissionregistration.Variable, options cel.OptionalVariableDeclarations) {
	for _, v := range all {
		result := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, options, environment.NewExpressions)
		if result.Error != nil {
			fail(fmt.Errorf("variable %s: %w", v.Name, result.Error))
		}
	}
}

func matcherOf(compiler *cel.CompositedCompiler, one chosen, options cel.OptionalVariableDeclarations) matchconditions.Matcher {
	accessors := []cel.ExpressionAccessor{}
	for i := range one.conditions {
		accessors = append(accessors, (*matchconditions.MatchCondition)(&one.conditions[i]))
	}
	strict := admissionregistration.Fail
	return matchconditions.NewMatcher(compiler.CompileCondition(accessors, options, environment.NewExpressions), &strict, "policy", "test", one.name)
}

var resource = core.SchemeGroupVersion.WithResource("pods")

func versioned(in *input, pod *core.Pod) (*admission.VersionedAttributes, *runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := core.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	kind := core.SchemeGroupVersion.WithKind("Pod")
	attributes := admission.NewAttributesRecord(pod, nil, kind, in.Namespace.Name, pod.Name, resource, "", admission.Create,
		&meta.CreateOptions{}, false, nil)
	made, err := admission.NewVersionedAttributes(attributes, kind, admission.NewObjectInterfacesFromScheme(scheme))
	return made, scheme, err
}
