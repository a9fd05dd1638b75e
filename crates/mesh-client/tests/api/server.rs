//! A scripted MESH: HTTP/1.1 on a loopback port, with or without TLS.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use mesh_client::{BoxError, Mailbox, MeshClient, MeshClientBuilder, RetryPolicy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a request was.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// `None` if it did not arrive whole.
    pub(crate) body: Option<Bytes>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Answers once the request has arrived.
    Answer(Answer),
    /// Answers before it reads the request's body.
    AnswerEarly(Answer),
    /// Announces more bytes than it sends, then closes.
    CutShort(Answer),
    /// Closes without an answer.
    HangUp,
    /// Never answers.
    Stall,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

pub(crate) fn answer(status: u16) -> Answer {
    Answer {
        status,
        ..Answer::default()
    }
}

impl Answer {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Answer> for Does {
    fn from(answer: Answer) -> Self {
        Does::Answer(answer)
    }
}

pub(crate) struct Server {
    port: u16,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// The last step of the script is repeated.
    pub(crate) async fn start(script: impl IntoIterator<Item = Does>) -> Self {
        Self::start_with(script, None).await
    }

    pub(crate) async fn start_with(
        script: impl IntoIterator<Item = Does>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            scheme: if tls.is_some() { "https" } else { "http" },
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let script: Arc<Vec<Does>> = Arc::new(script.into_iter().collect());
        let (seen, connections) = (server.seen.clone(), server.connections.clone());
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, seen, tls) = (script.clone(), seen.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, script, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, script, seen).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.port)
    }

    pub(crate) fn client(&self) -> MeshClientBuilder {
        MeshClient::builder(&self.url()).retry(RetryPolicy {
            base: Duration::from_millis(1),
            ..RetryPolicy::default()
        })
    }

    pub(crate) fn mailbox(&self) -> Mailbox {
        mailbox(&self.client().build().unwrap())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub(crate) fn mailbox(client: &MeshClient) -> Mailbox {
    client.mailbox(
        "X26ABC1".parse().unwrap(),
        "password".into(),
        "TestKey".into(),
    )
}

async fn serve<S>(stream: S, script: Arc<Vec<Does>>, seen: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| step(request, script.clone(), seen.clone()));
    // A connection that a test breaks on purpose ends in an error here.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn step(
    request: Request<Incoming>,
    script: Arc<Vec<Does>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
    let (head, incoming) = request.into_parts();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(Seen {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            body: None,
        });
        seen.len() - 1
    };
    let does = script[number.min(script.len() - 1)].clone();
    if !matches!(does, Does::AnswerEarly(_)) {
        let body = incoming.collect().await?.to_bytes();
        seen.lock().unwrap()[number].body = Some(body);
    }
    match does {
        Does::Answer(answer) | Does::AnswerEarly(answer) => {
            let body = Full::new(answer.body.clone())
                .map_err(infallible)
                .boxed_unsync();
            Ok(respond(&answer, body))
        }
        Does::CutShort(answer) => {
            let length = (answer.body.len() + 1).to_string();
            let frames = stream::iter([Ok(Frame::data(answer.body.clone()))]).chain(
                // The first bytes must be on their way before the connection breaks.
                stream::once(async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(BoxError::from("cut short"))
                }),
            );
            let answer = answer.header("content-length", length);
            Ok(respond(&answer, StreamBody::new(frames).boxed_unsync()))
        }
        Does::HangUp => Err("hang up".into()),
        Does::Stall => std::future::pending().await,
    }
}

fn infallible(never: Infallible) -> BoxError {
    match never {}
}

fn respond(
    answer: &Answer,
    body: UnsyncBoxBody<Bytes, BoxError>,
) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(body).unwrap()
}
