//! Spans in the form in which OpenTelemetry's protocol (OTLP) carries them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::store::traces::{FinishedSpan, Kind, Value};

/// This process, as the receiver of its spans sees it.
pub fn resource(service: &str, instance: &str) -> Resource {
    let attributes = [
        ("service.name", service),
        ("service.instance.id", instance),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let text =
        |(name, value): (&'static str, &str)| attribute(name, Any::StringValue(value.into()));
    Resource {
        attributes: attributes.map(text).into(),
        ..Resource::default()
    }
}

/// The request that hands `spans` over.
pub fn request(resource: &Resource, spans: Vec<FinishedSpan>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "oms".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.into_iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn span(span: FinishedSpan) -> Span {
    let kind = match span.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
    };
    let status = span.failed.then(|| Status {
        code: StatusCode::Error.into(),
        ..Status::default()
    });
    let links = span.links.into_iter().map(|to| Link {
        trace_id: to.trace.to_be_bytes().into(),
        span_id: to.span.to_be_bytes().into(),
        ..Link::default()
    });
    let attributes = span.attributes.into_iter();
    let parent = span.parent.map(|parent| parent.to_be_bytes().into());
    Span {
        trace_id: span.context.trace.to_be_bytes().into(),
        span_id: span.context.span.to_be_bytes().into(),
        parent_span_id: parent.unwrap_or_default(),
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes
            .map(|(name, v)| attribute(name, any(v)))
            .collect(),
        links: links.collect(),
        dropped_links_count: span.dropped_links,
        status,
        ..Span::default()
    }
}

fn any(value: Value) -> Any {
    match value {
        Value::Text(text) => Any::StringValue(text.into_owned()),
        Value::Number(number) => Any::IntValue(number),
        Value::Flag(flag) => Any::BoolValue(flag),
    }
}

fn attribute(name: &'static str, value: Any) -> KeyValue {
    KeyValue {
        key: name.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
