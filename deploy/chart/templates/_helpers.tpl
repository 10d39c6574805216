{{- define "batoff.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "batoff.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What selects the pods of a part: (list $ "control") */}}
{{- define "batoff.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "batoff.labels" -}}
{{ include "batoff.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* Each override as a flag; the program says which one it does not know. */}}
{{- define "batoff.settings" -}}
{{- range $key, $value := . }}
- --set
- {{ printf "%s=%v" $key $value | quote }}
{{- end }}
{{- end }}

{{/* What a container of ours may do: nothing but its work. */}}
{{- define "batoff.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* Who the daemon runs as: nginx's user beside nginx, whose files nobody else may read. */}}
{{- define "batoff.edgeUser" -}}
{{ .Values.edge.nginx.enabled | ternary (int .Values.edge.nginx.user) 10001 }}
{{- end }}

{{/* [traces] of any of our programs: (list $ "control") */}}
{{- define "batoff.traces" -}}
{{- $traces := (index . 0).Values.traces -}}
[traces]
{{- if $traces.endpoint }}
{{- $secure := hasPrefix "https://" $traces.endpoint }}
{{- if and $traces.headersSecret (not $secure) }}
{{- fail "traces.headersSecret: a token goes over https only; see traces.endpoint" }}
{{- end }}
{{- if and $traces.caSecret (not $secure) }}
{{- fail "traces.caSecret: says nothing without https; see traces.endpoint" }}
{{- end }}
endpoint = {{ $traces.endpoint | quote }}
{{- if $secure }}
ca = {{ empty $traces.caSecret | ternary "/etc/ssl/certs/ca-certificates.crt" "/etc/batoff/collector-ca/ca.crt" | quote }}
{{- end }}
{{- if $traces.headersSecret }}
headers_file = "/etc/batoff/collector/headers"
{{- end }}
attributes = {{ $traces.attributes | toJson }}
{{- if eq (index . 1) "control" }}
ratio = {{ printf "%g" (float64 $traces.ratio) }}
callers_per_minute = {{ int $traces.callersPerMinute }}
{{- end }}
{{- else }}
# Off: traces.endpoint is empty.
{{- range list "caSecret" "headersSecret" }}
{{- if index $traces . }}
{{- fail (printf "traces.%s: says nothing without traces.endpoint" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
