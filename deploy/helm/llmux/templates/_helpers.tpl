{{- define "llmux.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Leaves room for suffixes and for the number of a pod. */}}
{{- define "llmux.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "llmux.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "llmux.selector" -}}
app.kubernetes.io/name: {{ include "llmux.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llmux.labels" -}}
{{ include "llmux.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "llmux.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "llmux.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "llmux.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{/* "true" where more than one gateway may run. */}}
{{- define "llmux.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) }}true{{ end }}
{{- end }}

{{- define "llmux.scheme" -}}
{{- if .Values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* The name of the port that serves metrics and the management API. */}}
{{- define "llmux.adminPortName" -}}
{{- if gt (int .Values.adminPort) 0 }}admin{{ else }}http{{ end }}
{{- end }}

{{/* What no schema can say. */}}
{{- define "llmux.validate" -}}
{{- if and (include "llmux.several" .) (not .Values.database.enabled) }}
{{- fail "More than one gateway needs database.enabled: without PostgreSQL each would have keys, budgets and spend of its own." }}
{{- end }}
{{- if and (include "llmux.several" .) .Values.persistence.existingClaim }}
{{- fail "persistence.existingClaim is one volume: it cannot be that of several gateways." }}
{{- end }}
{{- if and .Values.database.enabled (not .Values.existingSecret) (not .Values.secrets.LLMUX_MASTER_KEY) (not .Values.extraEnv) (not .Values.extraEnvFrom) }}
{{- fail "database.enabled needs LLMUX_MASTER_KEY, in existingSecret or in secrets: gateways that share a database share the key." }}
{{- end }}
{{- if and .Values.existingSecret .Values.secrets }}
{{- fail "Set either secrets or existingSecret." }}
{{- end }}
{{- end }}
