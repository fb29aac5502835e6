//! A collector of traces: takes OTLP over HTTP and decodes it by the published messages.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use opentelemetry_proto::tonic::trace::v1::Span;

use crate::eventually;

/// A running collector; ends when dropped.
pub struct Collector {
    /// Its base URL.
    pub url: String,
    taken: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::<Mutex<Vec<_>>>::default();
        let task = {
            let taken = taken.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, taken.clone()));
                }
            })
        };
        Self {
            url: format!("http://{address}"),
            taken,
            task,
        }
    }

    /// Every span that it took.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.taken.lock();
        let resources = taken.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until the trace with this id has spans that `enough` says so of.
    pub async fn trace(&self, id: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let wanted = u128::from_str_radix(id, 16).expect("a trace id");
        let found = || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace_id == wanted.to_be_bytes());
            let complete = enough(&spans);
            async move { complete.then_some(spans) }
        };
        eventually("the spans of a trace", found).await
    }

    /// What the sender says of itself.
    pub fn resource(&self, name: &str) -> Option<String> {
        let taken = self.taken.lock();
        let resource = taken.first()?.resource_spans.first()?.resource.clone()?;
        text_of(&resource.attributes, name)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The text of an attribute of a span.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    text_of(&span.attributes, name)
}

fn text_of(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    name: &str,
) -> Option<String> {
    let found = attributes.iter().find(|a| a.key == name)?;
    Some(match found.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    })
}

/// Answers the requests of one connection.
async fn serve(stream: TcpStream, taken: Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = request(&mut stream).await {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
        assert!(head.contains("application/x-protobuf"), "{head}");
        let request = ExportTraceServiceRequest::decode(&body[..]).expect("OTLP");
        taken.lock().push(request);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Head and body of the next request; `None` at the end of the connection.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let (_, length) = lower.split_once("content-length:")?;
    let length = length.lines().next()?.trim().parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}
