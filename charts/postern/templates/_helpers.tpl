{{- /* Names are fixed: a cluster has one Postern, and a second installation is refused instead of injecting twice. */ -}}
{{- define "postern.labels" -}}
{{ include "postern.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* What never changes, because a Deployment's selector must not. */ -}}
{{- define "postern.selector" -}}
app.kubernetes.io/name: postern
app.kubernetes.io/component: operator
{{- end }}

{{- /* The reference of the image `which`: operator or gateway. */ -}}
{{- define "postern.image" -}}
{{- $image := .root.Values.image -}}
{{- with get $image .which -}}
{{ . }}
{{- else -}}
{{- $registry := required "image.registry is not set; say where the images were pushed to, as in --set image.registry=registry.example.com/postern" $image.registry -}}
{{ trimSuffix "/" $registry }}/{{ .which }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* Amounts as the operator reads them: cpu=10m,memory=16Mi. */ -}}
{{- define "postern.amounts" -}}
{{- $amounts := list -}}
{{- range $name, $amount := . -}}
{{- $amounts = append $amounts (printf "%s=%v" $name $amount) -}}
{{- end -}}
{{ join "," $amounts }}
{{- end }}

{{- /* The account that the fence is built around. */ -}}
{{- define "postern.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:postern-operator
{{- end }}

{{- /* The restricted profile, complete. The image names a user by number; any other works. */ -}}
{{- define "postern.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}
