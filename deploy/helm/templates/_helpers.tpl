{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "exporter.fullname" -}}
{{- $name := include "exporter.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "exporter.labels" -}}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "exporter.secretName" -}}
{{- default (include "exporter.fullname" .) .Values.token.existingSecret -}}
{{- end -}}

{{- define "exporter.image" -}}
{{- $repository := required "image.repository is empty: say where your copy of the image is" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "exporter.isSharded" -}}
{{- gt (int .Values.shards) 1 -}}
{{- end -}}

{{- define "exporter.claim" -}}
accessModes:
  {{- toYaml .Values.persistence.accessModes | nindent 2 }}
{{- with .Values.persistence.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.persistence.size }}
{{- end -}}

{{- /* What the chart decides stands first, since a section of TOML goes on until the next one. */ -}}
{{- define "exporter.config" -}}
[server]
listen_addresses = [":10199"]
probe_listen_address = ":10200"
{{- if .Values.webConfig.existingSecret }}
web_config_file = "/run/secrets/cloudflare-cert-exporter-web/web-config.yml"
{{- end }}

[state]
# Below the volume, in which others than the daemon's user can often write.
directory = "/var/lib/cloudflare-cert-exporter/state"

{{ if .Values.token.enabled -}}
[credentials.default]
api_token_file = "/run/secrets/cloudflare-cert-exporter/token"
{{- end }}

{{ .Values.config }}
{{- end -}}
