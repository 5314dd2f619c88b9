{{/*
The wanted content of the webhook configurations, for the controller. caBundle is missing: it fills that in.

Conditions are written so that they cannot fail on any object that the API server hands them: a condition that fails
counts, under failurePolicy Fail, as a refusal. Each speaks of one case in which the webhook need not be asked.
*/}}

{{/* A list of names and images, order included: a Pod's containers keep theirs. Arguments: of, list. */}}
{{- define "podseal.cel.images" -}}
(has({{ .of }}.spec.{{ .list }}) ? {{ .of }}.spec.{{ .list }}.map(c, [c.name, has(c.image) ? c.image : '']) : [])
{{- end -}}

{{- define "podseal.cel.volumes" -}}
(has({{ .of }}.spec.volumes) ? {{ .of }}.spec.volumes.filter(v, has(v.image)).map(v, [v.name, has(v.image.reference) ? v.image.reference : '']) : [])
{{- end -}}

{{/* Of Pods. */}}
{{- define "podseal.podConditions" -}}
matchConditions:
# The kubelet shows static Pods, which run already, as mirror Pods. Only a node's own word counts.
- name: not-a-mirror-pod-of-a-node
  expression: >-
    !(has(request.userInfo.username) && request.userInfo.username.startsWith('system:node:')
    && has(request.userInfo.groups) && request.userInfo.groups.exists(g, g == 'system:nodes')
    && has(object.metadata.annotations) && 'kubernetes.io/config.mirror' in object.metadata.annotations)
# Finalizers, labels and whatever else leaves the images alone pass, also while podseal is away.
- name: images-are-new-or-changed
  expression: >-
    request.operation != 'UPDATE' || oldObject == null || !has(object.spec) || !has(oldObject.spec)
    {{- range list "containers" "initContainers" "ephemeralContainers" }}
    || {{ include "podseal.cel.images" (dict "of" "object" "list" .) }}
    != {{ include "podseal.cel.images" (dict "of" "oldObject" "list" .) }}
    {{- end }}
    || {{ include "podseal.cel.volumes" (dict "of" "object") }}
    != {{ include "podseal.cel.volumes" (dict "of" "oldObject") }}
{{- end -}}

{{/* Of everything else. */}}
{{- define "podseal.specConditions" -}}
matchConditions:
- name: spec-is-new-or-changed
  expression: >-
    request.operation != 'UPDATE' || oldObject == null || !has(object.spec) || !has(oldObject.spec)
    || object.spec != oldObject.spec
{{- end -}}

{{- define "podseal.webhook.client" -}}
admissionReviewVersions: [v1]
{{- /* Events about denials, none for dry runs. */}}
sideEffects: NoneOnDryRun
matchPolicy: Equivalent
timeoutSeconds: {{ .root.Values.webhooks.timeoutSeconds }}
failurePolicy: {{ .failurePolicy }}
clientConfig:
  service:
    namespace: {{ .root.Release.Namespace }}
    name: {{ include "podseal.fullname" .root }}
    port: 443
    path: {{ .path }}
{{- end -}}

{{/* A label that the API server sets and nobody can forge; the labels of objects never count. */}}
{{- define "podseal.webhook.judged" -}}
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ concat (list "kube-system" .Release.Namespace) (include "podseal.exempt" . | fromJsonArray) | uniq | toJson }}
{{- end -}}

{{- define "podseal.webhook.pods" -}}
rules:
- {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers], scope: Namespaced}
{{- end -}}

{{- define "podseal.webhooks" -}}
{{- $name := include "podseal.fullname" . -}}
{{- $audit := eq .Values.enforcement "Audit" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ $name }}
webhooks:
# The enforcement point.
- name: pods.podseal.tmax.io
  {{- include "podseal.webhook.client" (dict "root" . "path" "/validate" "failurePolicy" (include "podseal.failurePolicy" .)) | nindent 2 }}
  {{- include "podseal.webhook.judged" . | nindent 2 }}
  {{- include "podseal.webhook.pods" . | nindent 2 }}
  {{- include "podseal.podConditions" . | nindent 2 }}
{{- if ne .Values.templates "off" }}
# Early feedback. Unless templates are enforced, nothing waits for it.
- name: templates.podseal.tmax.io
  {{- $enforced := and (eq .Values.templates "enforce") (not $audit) }}
  {{- include "podseal.webhook.client" (dict "root" . "path" "/validate" "failurePolicy" (ternary .Values.webhooks.failurePolicy "Ignore" $enforced)) | nindent 2 }}
  {{- include "podseal.webhook.judged" . | nindent 2 }}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [replicationcontrollers], scope: Namespaced}
  - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, replicasets, statefulsets, daemonsets], scope: Namespaced}
  - {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [jobs, cronjobs], scope: Namespaced}
  {{- include "podseal.specConditions" . | nindent 2 }}
{{- end }}
{{- if .Values.webhooks.policies }}
# Refuses policies that cannot be read. While podseal is away they are stored all the same, and deny by their status.
- name: policies.podseal.tmax.io
  {{- include "podseal.webhook.client" (dict "root" . "path" "/validate-policy" "failurePolicy" "Ignore") | nindent 2 }}
  rules:
  - {apiGroups: [tmax.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [clusterregistrysecuritypolicies, registrysecuritypolicies], scope: "*"}
  {{- include "podseal.specConditions" . | nindent 2 }}
{{- end }}
{{- if .Values.pinning.enabled }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ $name }}
webhooks:
# Writes the digest of each image that is under a signature check; another webhook that adds a container has it asked again.
- name: pins.podseal.tmax.io
  reinvocationPolicy: IfNeeded
  {{- include "podseal.webhook.client" (dict "root" . "path" "/mutate" "failurePolicy" .Values.pinning.failurePolicy) | nindent 2 }}
  {{- include "podseal.webhook.judged" . | nindent 2 }}
  {{- include "podseal.webhook.pods" . | nindent 2 }}
  {{- include "podseal.podConditions" . | nindent 2 }}
{{- end }}
{{- end -}}
