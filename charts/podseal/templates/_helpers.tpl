{{- define "podseal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What everything is called: the release's name when it says podseal, else both. */}}
{{- define "podseal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "podseal.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "podseal.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "podseal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "podseal.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "podseal.selector" -}}
app.kubernetes.io/name: {{ include "podseal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "podseal.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{- define "podseal.tlsSecret" -}}
{{- .Values.certificates.secretName | default (printf "%s-webhook-tls" (include "podseal.fullname" .)) -}}
{{- end -}}

{{/* Namespaces that are exempt by the installation's choice, as a JSON list. */}}
{{- define "podseal.exempt" -}}
{{- concat .Values.exempt.namespaces .Values.exempt.nodeAgents | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* In a dry run nothing may be refused, also while podseal is away. */}}
{{- define "podseal.failurePolicy" -}}
{{- if eq .Values.enforcement "Audit" }}Ignore{{ else }}{{ .Values.webhooks.failurePolicy }}{{ end -}}
{{- end -}}

{{/* Rules about policies and namespaces, which both parts go by. */}}
{{- define "podseal.decisionArgs" -}}
{{- if .Values.denyWithoutPolicy }}
- --deny-without-policy
{{- end }}
{{- if .Values.restrictNamespaces }}
- --restrict-namespaces
{{- end }}
{{- range .Values.sharedNamespaces }}
- --shared-namespace={{ . }}
{{- end }}
{{- range include "podseal.exempt" . | fromJsonArray }}
- --exempt-namespace={{ . }}
{{- end }}
{{- end -}}

{{/* Where signatures are fetched from, and how, as both parts do it. */}}
{{- define "podseal.sourceArgs" -}}
{{- if or .Values.registriesD.files .Values.registriesD.configMap }}
- --registries-d=/etc/podseal/registries.d
{{- end }}
{{- if .Values.dockerConfig.secret }}
- --docker-config=/etc/podseal/docker/config.json
{{- end }}
{{- if or .Values.ca.bundle .Values.ca.configMap }}
- --ca-file=/etc/podseal/ca/ca.crt
{{- end }}
{{- range .Values.platforms }}
- {{ printf "--platform=%s" . | quote }}
{{- end }}
{{- if .Values.sigstore.trustedRootConfigMap }}
- --sigstore-trusted-root=/etc/podseal/sigstore/trusted_root.json
{{- else if .Values.sigstore.tuf }}
- --sigstore-tuf
{{- end }}
{{- range $registry, $host := .Values.sources.tokenRealms }}
- {{ printf "--token-realm=%s=%s" $registry $host | quote }}
{{- end }}
{{- range .Values.sources.allowAddresses }}
- {{ printf "--allow-address=%s" . | quote }}
{{- end }}
{{- range .Values.sources.apiServerAddresses }}
- {{ printf "--api-server-address=%s" . | quote }}
{{- end }}
- --request-timeout={{ .Values.sources.requestTimeout }}
- --per-upstream={{ .Values.sources.perUpstream | int }}
- --per-namespace={{ .Values.sources.perNamespace | int }}
{{- end -}}

{{- define "podseal.commonArgs" -}}
- --metrics-listen={{ .Values.listenAddress }}:{{ .Values.ports.plain }}
- --log-format={{ .Values.logFormat }}
{{- if .Values.verbosity }}
- -{{ repeat (int .Values.verbosity) "v" }}
{{- end }}
{{- include "podseal.decisionArgs" . }}
{{ include "podseal.sourceArgs" . | trim }}
{{- end -}}

{{- define "podseal.env" -}}
- name: PODSEAL_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- /* The C library keeps up to eight heaps per processor, and each what was freed in it: on large nodes most of the memory. */}}
- name: MALLOC_ARENA_MAX
  value: "2"
{{- range $name, $value := dict "HTTP_PROXY" .Values.proxy.httpProxy "HTTPS_PROXY" .Values.proxy.httpsProxy "NO_PROXY" .Values.proxy.noProxy }}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "podseal.mounts" -}}
{{- if or .Values.registriesD.files .Values.registriesD.configMap }}
- {name: registries-d, mountPath: /etc/podseal/registries.d, readOnly: true}
{{- end }}
{{- if .Values.dockerConfig.secret }}
- {name: docker-config, mountPath: /etc/podseal/docker, readOnly: true}
{{- end }}
{{- if or .Values.ca.bundle .Values.ca.configMap }}
- {name: ca, mountPath: /etc/podseal/ca, readOnly: true}
{{- end }}
{{- if .Values.sigstore.trustedRootConfigMap }}
- {name: sigstore, mountPath: /etc/podseal/sigstore, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "podseal.volumes" -}}
{{- if or .Values.registriesD.files .Values.registriesD.configMap }}
- name: registries-d
  configMap:
    name: {{ .Values.registriesD.configMap | default (printf "%s-registries-d" (include "podseal.fullname" .)) }}
{{- end }}
{{- with .Values.dockerConfig.secret }}
- name: docker-config
  secret:
    secretName: {{ . }}
    items: [{key: .dockerconfigjson, path: config.json}]
{{- end }}
{{- if or .Values.ca.bundle .Values.ca.configMap }}
- name: ca
  configMap:
    name: {{ .Values.ca.configMap | default (printf "%s-ca" (include "podseal.fullname" .)) }}
    items: [{key: {{ if .Values.ca.configMap }}{{ .Values.ca.key }}{{ else }}ca.crt{{ end }}, path: ca.crt}]
{{- end }}
{{- with .Values.sigstore.trustedRootConfigMap }}
- name: sigstore
  configMap:
    name: {{ . }}
    items: [{key: trusted_root.json, path: trusted_root.json}]
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the Pods of both Deployments have in common. Arguments: root, component, settings (of its Pods). */}}
{{- define "podseal.podSpec" -}}
{{- $root := .root -}}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if and $root.Values.hostNetwork (eq .component "webhook") }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- if $root.Values.topologySpread }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "podseal.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $.component }}
  # Counts the Pods of one version alone, or the last of a rollout ends up beside each other.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What both containers have in common. */}}
{{- define "podseal.container" -}}
image: {{ include "podseal.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Labels and annotations of the Pods; files that are read at the start alone have their digest here. */}}
{{- define "podseal.podMetadata" -}}
labels:
  {{- include "podseal.selector" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: podseal
  {{- with .root.Values.ca.bundle }}
  podseal.io/ca-digest: {{ sha256sum . }}
  {{- end }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
