{{- define "oms.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "oms.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "oms.labels" -}}
{{ include "oms.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "oms.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "oms.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "oms.image" -}}
{{- $repository := required "image.repository is required: where your image is" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "oms.job" -}}
{{- default (printf "oms-%s-%s" .Release.Namespace .Release.Name) .Values.serviceMonitor.job -}}
{{- end -}}

{{/* Where everything is and where its secrets are mounted. Secrets come out of files, never out of variables. */}}
{{- define "oms.env" -}}
- { name: OMS__HTTP__HOST, value: "0.0.0.0" }
- { name: OMS__HTTP__PORT, value: "8000" }
- { name: OMS__DATA_DIR, value: /var/lib/oms }
- { name: OMS__TELEMETRY__LOG_FORMAT, value: json }
- { name: OMS__AUTH__TOKENS_FILE, value: /run/secrets/oms/auth/tokens }
{{- if not (or .Values.s3.endpoint .Values.s3.region) }}
{{- fail "s3.endpoint or s3.region is required: without them every pod would run a store of its own" }}
{{- end }}
{{- with .Values.s3.endpoint }}
- { name: OMS__S3__ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- with .Values.s3.region }}
- { name: OMS__S3__REGION, value: {{ . | quote }} }
{{- end }}
- { name: OMS__S3__BUCKET, value: {{ .Values.s3.bucket | quote }} }
{{- if .Values.s3.secret.name }}
- { name: OMS__S3__ACCESS_KEY_FILE, value: /run/secrets/oms/s3/access-key }
- { name: OMS__S3__SECRET_KEY_FILE, value: /run/secrets/oms/s3/secret-key }
{{- end }}
{{- if .Values.s3.caSecret.name }}
- { name: OMS__S3__CA, value: /run/secrets/oms/s3-ca/ca.crt }
{{- end }}
- { name: OMS__POSTGRES__URL_FILE, value: /run/secrets/oms/postgres/url }
{{- if .Values.postgres.secret.ca }}
- { name: OMS__POSTGRES__CA, value: /run/secrets/oms/postgres/ca.crt }
{{- end }}
- { name: OMS__POSTGRES__SCHEMA, value: {{ .Values.postgres.schema | quote }} }
- name: OMS__KAFKA__BOOTSTRAP
  value: {{ required "kafka.bootstrap is required: without it every pod would run a broker of its own" .Values.kafka.bootstrap | quote }}
- { name: OMS__KAFKA__TOPIC_PREFIX, value: {{ .Values.kafka.topicPrefix | quote }} }
{{- if .Values.kafka.transactions }}
- { name: OMS__KAFKA__TRANSACTIONS, value: "true" }
{{- end }}
{{- if .Values.kafka.optionsSecret.name }}
- { name: OMS__KAFKA__OPTIONS_FILE, value: /run/secrets/oms/kafka/options }
{{- end }}
{{- with .Values.mode }}
- { name: OMS__MIGRATION__MODE, value: {{ . }} }
{{- end }}
{{- if .Values.tls.secret }}
- { name: OMS__HTTP__TLS_CERT, value: /run/secrets/oms/tls/tls.crt }
- { name: OMS__HTTP__TLS_KEY, value: /run/secrets/oms/tls/tls.key }
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "oms.mounts" -}}
- { name: config, mountPath: /etc/oms, readOnly: true }
- { name: auth, mountPath: /run/secrets/oms/auth, readOnly: true }
- { name: postgres, mountPath: /run/secrets/oms/postgres, readOnly: true }
{{- if .Values.s3.secret.name }}
- { name: s3, mountPath: /run/secrets/oms/s3, readOnly: true }
{{- end }}
{{- if .Values.s3.caSecret.name }}
- { name: s3-ca, mountPath: /run/secrets/oms/s3-ca, readOnly: true }
{{- end }}
{{- if .Values.kafka.optionsSecret.name }}
- { name: kafka, mountPath: /run/secrets/oms/kafka, readOnly: true }
{{- end }}
{{- if .Values.tls.secret }}
- { name: tls, mountPath: /run/secrets/oms/tls, readOnly: true }
{{- end }}
{{- if .Values.dataDir.enabled }}
- { name: data, mountPath: /var/lib/oms }
{{- end }}
{{- end -}}

{{- define "oms.volumes" -}}
- name: config
  configMap: { name: {{ include "oms.fullname" . }} }
- name: auth
  secret:
    secretName: {{ required "auth.secret.name is required: beyond loopback the service needs tokens" .Values.auth.secret.name }}
    defaultMode: 0440
    items: [{ key: {{ .Values.auth.secret.key | quote }}, path: tokens }]
- name: postgres
  secret:
    secretName: {{ required "postgres.secret.name is required" .Values.postgres.secret.name }}
    defaultMode: 0440
    items:
      - { key: {{ .Values.postgres.secret.key | quote }}, path: url }
      {{- with .Values.postgres.secret.ca }}
      - { key: {{ . | quote }}, path: ca.crt }
      {{- end }}
{{- with .Values.s3.secret }}
{{- if .name }}
- name: s3
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    items:
      - { key: {{ .accessKey | quote }}, path: access-key }
      - { key: {{ .secretKey | quote }}, path: secret-key }
{{- end }}
{{- end }}
{{- with .Values.s3.caSecret }}
{{- if .name }}
- name: s3-ca
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    items: [{ key: {{ .key | quote }}, path: ca.crt }]
{{- end }}
{{- end }}
{{- with .Values.kafka.optionsSecret }}
{{- if .name }}
- name: kafka
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    items: [{ key: {{ .key | quote }}, path: options }]
{{- end }}
{{- end }}
{{- with .Values.tls.secret }}
- name: tls
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.dataDir.enabled }}
- name: data
  emptyDir: { medium: Memory, sizeLimit: {{ .Values.dataDir.sizeLimit }} }
{{- end }}
{{- end -}}

{{- define "oms.scheme" -}}
{{- if .Values.tls.secret }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}
