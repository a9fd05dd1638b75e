//! Any answer of a server through the client's own calls: inbox pages, error bodies, tracking, headers, gzip bodies.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::rc::Rc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use mesh_client::{Error, Mailbox, MeshClient, MessageId, RetryPolicy};
use mesh_pipeline::metadata::Metadata;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

const NAMES: [&str; 10] = [
    "mex-messagetype",
    "mex-chunk-range",
    "mex-filename",
    "mex-subject",
    "mex-localid",
    "mex-content-type",
    "mex-statusdescription",
    "content-encoding",
    "retry-after",
    "content-type",
];

#[derive(Arbitrary, Debug)]
enum Shape {
    AsItIs,
    // What it says it is, so that the decoded bytes vary too.
    Gzip,
    // Says gzip and is anything.
    SaysGzip,
}

#[derive(Arbitrary, Debug)]
struct Answer {
    call: u8,
    status: u16,
    headers: Vec<(u8, Vec<u8>)>,
    shape: Shape,
    body: Vec<u8>,
}

impl Answer {
    fn response(&self) -> Response<Full<Bytes>> {
        let body = match self.shape {
            Shape::Gzip => gzip(&self.body),
            Shape::AsItIs | Shape::SaysGzip => self.body.clone(),
        };
        let mut response = Response::new(Full::new(body.into()));
        // 1xx would be followed by another answer.
        let status = match self.call & 0x80 {
            0 => 200,
            _ => 200 + self.status % 400,
        };
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let headers = response.headers_mut();
        // Without it no download goes further.
        headers.insert("mex-messageid", HeaderValue::from_static("1"));
        for (name, value) in &self.headers {
            let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
            // Control characters never come so far: the rest shall.
            let value: Vec<u8> = value.iter().map(|byte| printable(*byte)).collect();
            headers.append(name, HeaderValue::from_bytes(&value).unwrap());
        }
        if matches!(self.shape, Shape::Gzip | Shape::SaysGzip) {
            headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn printable(byte: u8) -> u8 {
    match byte {
        0x7f => b'~',
        control if control < 0x20 => control | 0x20,
        byte => byte,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct World {
    runtime: Runtime,
    tasks: LocalSet,
    mailbox: Mailbox,
    answer: Rc<RefCell<Option<Answer>>>,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = LocalSet::new();
        let answer: Rc<RefCell<Option<Answer>>> = Rc::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let given = answer.clone();
        tasks.spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let given = given.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let given = given.clone();
                    async move {
                        let _ = request.collect().await;
                        Ok::<_, Infallible>(given.borrow().as_ref().unwrap().response())
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::task::spawn_local(connection);
            }
        });
        let client = MeshClient::builder(&url)
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        let mailbox = client.mailbox("X26ABC1".parse().unwrap(), "p".into(), "k".into());
        Self {
            runtime,
            tasks,
            mailbox,
            answer,
        }
    }

    fn take(&self, answer: Answer) -> Result<(), Error> {
        let call = answer.call & 0x7f;
        self.answer.replace(Some(answer));
        let mailbox = &self.mailbox;
        let id: MessageId = "1".parse().unwrap();
        self.tasks.block_on(&self.runtime, async {
            match call % 5 {
                0 => {
                    let page = mailbox.inbox(10).await?;
                    if let Some(next) = page.next {
                        mailbox.inbox_next(&next).await?;
                    }
                }
                1 => drop(mailbox.track(&id).await?),
                2 => drop(mailbox.track_by_local_id("1").await?),
                3 => mailbox.acknowledge(&id).await?,
                _ => {
                    let mut download = mailbox.download(&id).await?;
                    let metadata = Metadata::of(&id, &download.headers);
                    let size: usize = metadata
                        .entries
                        .iter()
                        .map(|(name, value)| name.len() + value.len())
                        .sum();
                    assert!(size <= 2_000);
                    while download.next().await?.is_some() {}
                }
            }
            Ok(())
        })
    }
}

thread_local! {
    static WORLD: World = World::new();
}

fuzz_target!(|answer: Answer| {
    WORLD.with(|world| {
        if let Err(error) = world.take(answer) {
            // What is logged of it is bounded, whatever the answer was.
            assert!(error.to_string().chars().count() <= 2_000);
        }
    });
});
