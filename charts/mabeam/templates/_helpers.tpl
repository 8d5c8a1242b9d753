{{/* The chart's name. */}}
{{- define "mabeam.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects. */}}
{{- define "mabeam.fullname" -}}
{{- $name := include "mabeam.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What the Deployment, the Service and the others find the operator's pods by; an agent's pod never matches. */}}
{{- define "mabeam.selector" -}}
app.kubernetes.io/name: {{ include "mabeam.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "mabeam.labels" -}}
{{ include "mabeam.selector" . }}
app.kubernetes.io/part-of: mabeam
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mabeam.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mabeam.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mabeam.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The one subject of every binding. */}}
{{- define "mabeam.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "mabeam.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
