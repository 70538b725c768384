//! Processes that are killed under load and databases that go away: no answer without its record, no record twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::books::{
    Books, COST, Key, PRICE, TOKENS, chat_as, guarded, priced, question, start, streamed, used,
};
use crate::client::Request;
use crate::harness::{Gateway, serving};
use crate::replay::Vendor;

const CLIENTS: usize = 8;

/// Sends a request as long as the gateway takes it. Returns whether the whole answer has come: of a stream, its `[DONE]`.
async fn whole(address: SocketAddr, key: &Key, id: &str, stream: bool) -> Option<bool> {
    let mut body = question();
    body["model"] = json!(if stream { "s" } else { "m" });
    body["stream"] = json!(stream);
    let (bearer, body) = (format!("Bearer {}", key.secret), body.to_string());
    let headers =
        [("authorization", bearer.as_str()), ("x-request-id", id), ("connection", "close")];
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &headers,
        body: body.as_bytes(),
    };
    let mut socket = TcpStream::connect(address).await.ok()?;
    socket.write_all(&request.bytes(address)).await.ok()?;
    let mut answer = Vec::new();
    // What came before an error counts.
    let _ended = socket.read_to_end(&mut answer).await;
    let text = String::from_utf8(answer).expect("answers are text");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Some(false) };
    if head.starts_with("HTTP/1.1 503 ") {
        return Some(false);
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{}", text.replace("\r\n", " | "));
    if stream {
        return Some(body.contains("data: [DONE]\n\n"));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some(length.expect("whole answers have a length").parse() == Ok(body.len()))
}

/// What clients know of their requests: those sent, and those answered whole.
#[derive(Default)]
struct Ledger {
    sent: AtomicUsize,
    answered: Mutex<Vec<String>>,
}

/// Clients that ask until the gateway is gone.
fn load(address: SocketAddr, key: &Key, round: usize, ledger: &Arc<Ledger>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (key, ledger) = (key.clone(), Arc::clone(ledger));
        clients.spawn(async move {
            for number in 0.. {
                let id = format!("r{round}-{client}-{number}");
                ledger.sent.fetch_add(1, Ordering::Relaxed);
                match whole(address, &key, &id, (client + number) % 2 == 0).await {
                    None => return,
                    Some(true) => ledger.answered.lock().unwrap().push(id),
                    Some(false) => {}
                }
            }
        });
    }
    clients
}

/// Two models behind `address`: `m` answers whole, `s` in a stream.
fn configuration(vendor: &Vendor) -> Value {
    vendor.script("v", [used(10, TOKENS)]);
    vendor.script("w", [streamed(10, TOKENS)]);
    let stream = json!({"name": "s", "input_cost_per_token": 0, "output_cost_per_token": PRICE});
    let mut configuration =
        guarded(vec![serving(vendor, "v", priced()), serving(vendor, "w", stream)]);
    configuration["logging"] = json!({"level": "warn"});
    configuration
}

/// How many records each request has.
async fn rows(books: &Books, gateway: &Gateway) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for record in books.query(gateway, "SELECT request_id FROM usage_records").await {
        *rows.entry(record["request_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    rows
}

/// Fails unless the records are those of the answers: one each, each known to the vendor, and their sums in all places.
async fn check(books: &Books, gateway: &Gateway, vendor: &Vendor, key: &Key, ledger: &Ledger) {
    let rows = rows(books, gateway).await;
    let answered = ledger.answered.lock().unwrap().clone();
    for id in &answered {
        assert_eq!(rows.get(id), Some(&1), "records of {id}, which was answered whole");
    }
    let mut called: BTreeMap<String, usize> = BTreeMap::new();
    for seen in ["v", "w"].iter().flat_map(|name| vendor.seen(name)) {
        let id = seen.header("x-request-id").expect("the id goes to the vendor").to_owned();
        *called.entry(id).or_default() += 1;
    }
    for (id, count) in &rows {
        assert!(
            called.get(id) >= Some(count),
            "{count} records of {id}, {:?} calls",
            called.get(id)
        );
    }
    let ids = "SELECT COUNT(*) - COUNT(DISTINCT id) AS n FROM usage_records";
    assert_eq!(books.number(gateway, ids).await, 0, "records with an id of another");
    let spent = books.spent(gateway, &key.id).await;
    assert_eq!(spent, [spent[0]; 3], "the key's spend, its records', its days'");
    assert!(spent[0] >= answered.len() as i64 * COST, "{spent:?} for {} answers", answered.len());
    let wrong = format!(
        "SELECT COUNT(*) AS n FROM usage_records WHERE status = 'success' AND spend <> {COST}"
    );
    assert_eq!(books.number(gateway, &wrong).await, 0, "{:?}", books.records(gateway).await.last());
}

async fn killed_under_load(books: Books, rounds: usize) {
    let vendor = Vendor::start().await;
    let mut gateway = Gateway::start(books.configure(configuration(&vendor))).await;
    let key = gateway.key(json!({"max_budget": 1000})).await;
    let ledger = Arc::new(Ledger::default());
    let mut answered = 0;
    for round in 0..rounds {
        let clients = load(gateway.address, &key, round, &ledger);
        // Any moment will do, also one before the first answer.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..400))).await;
        gateway.kill();
        clients.join_all().await;
        answered = ledger.answered.lock().unwrap().len();
        gateway = gateway.revive().await;
        // What the killed process left behind is written before the first request.
        check(&books, &gateway, &vendor, &key, &ledger).await;
    }
    let sent = ledger.sent.load(Ordering::Relaxed);
    assert!(answered > rounds * 5, "{answered} answers of {sent} requests are too few to tell");
    gateway.settled().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    let rows: usize = rows(&books, &gateway).await.values().sum();
    assert!(rows <= sent, "{rows} records of {sent} requests");
    // Only what was in flight at a kill may have none.
    let seen = vendor.seen("v").len() + vendor.seen("w").len();
    assert!(seen - rows <= rounds * CLIENTS, "{seen} calls, {rows} records");
    let response = gateway.chat_as(&key, &question()).await;
    assert_eq!(response.status, 200, "{}", response.text());
}

/// Starts anew: the notices of the keys that were just made must not come when they are in use.
async fn without_notices(mut gateway: Gateway) -> Gateway {
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.revive().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_no_answer_is_without_its_record_in_sqlite() {
    killed_under_load(Books::Sqlite, 14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_no_answer_is_without_its_record_in_postgresql() {
    killed_under_load(Books::postgres().await, 6).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Up,
    /// Connections end, new ones end at once.
    Cut,
    /// Nothing moves, and nobody is told.
    Silent,
}

/// A way to a database that a test can close.
pub(crate) struct Relay {
    address: SocketAddr,
    line: watch::Sender<Line>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, watched) = watch::channel(Line::Up);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *watched.borrow() == Line::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(to).await else { continue };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(forward(near_in, far_out, watched.clone()));
                tokio::spawn(forward(far_in, near_out, watched.clone()));
            }
        });
        Self { address, line }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Cut => return,
            Line::Silent => {
                if line.changed().await.is_err() {
                    return;
                }
            }
            Line::Up => tokio::select! {
                changed = line.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                read = from.read(&mut buffer) => match read {
                    Ok(read) if read > 0 && to.write_all(&buffer[..read]).await.is_ok() => {}
                    _ => return,
                },
            },
        }
    }
}

/// PostgreSQL behind a relay: its books, read past the relay, and a configuration that goes through it.
pub(crate) async fn relayed(vendor: &Vendor) -> (Books, Relay, Value) {
    let books = Books::postgres().await;
    let Books::Postgres(url) = &books else { unreachable!("it is PostgreSQL") };
    let place = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let relay = Relay::start(place.parse().expect("the tests' server has a numeric address")).await;
    let through = Books::Postgres(url.replace(place, &relay.address.to_string()));
    let configuration = through.configure(configuration(vendor));
    (books, relay, configuration)
}

async fn goes_on_while(away: Line) {
    let vendor = Vendor::start().await;
    let (books, relay, configuration) = relayed(&vendor).await;
    let gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({})).await;
    let unseen = gateway.key(json!({})).await;
    let gateway = without_notices(gateway).await;
    let ledger = Ledger::default();
    let ask = async |id: String| {
        assert_eq!(whole(gateway.address, &key, &id, false).await, Some(true), "{id} ({away:?})");
        ledger.answered.lock().unwrap().push(id);
    };
    ask("before".to_owned()).await;
    gateway.settled().await;
    relay.set(away);
    for number in 0..30 {
        ask(format!("away-{number}")).await;
    }
    let state = gateway.state().await;
    assert!(state["spool"]["backlog_bytes"].as_u64() > Some(0), "{away:?}: {state}");
    assert_eq!(rows(&books, &gateway).await.len(), 1, "{away:?}");
    if away == Line::Cut {
        let response = chat_as(gateway.address, &unseen.secret, &question(), &[]).await;
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(response.header("retry-after").is_some());
        response.error();
    }
    relay.set(Line::Up);
    gateway.settled().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    assert_eq!(rows(&books, &gateway).await.len(), 31, "{away:?}");
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * 31; 3], "{away:?}");
    let response = chat_as(gateway.address, &unseen.secret, &question(), &[]).await;
    assert_eq!(response.status, 200, "{away:?}: {}", response.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_says_nothing_known_keys_go_on_and_their_records_come_later() {
    goes_on_while(Line::Silent).await;
}

async fn killed_while(away: Line) {
    let vendor = Vendor::start().await;
    let (books, relay, configuration) = relayed(&vendor).await;
    let mut gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 1})).await;
    gateway = without_notices(gateway).await;
    let ledger = Ledger::default();
    for number in 0..10 {
        let id = format!("n-{number}");
        assert_eq!(whole(gateway.address, &key, &id, number % 2 == 0).await, Some(true));
        ledger.answered.lock().unwrap().push(id);
        if number == 4 {
            relay.set(away);
        }
    }
    gateway.kill();
    relay.set(Line::Up);
    gateway = gateway.revive().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * 10; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_made_while_postgresql_says_nothing_survive_a_kill() {
    killed_while(Line::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_postgresql_that_break_under_load_lose_and_double_nothing() {
    let vendor = Vendor::start().await;
    let (books, relay, configuration) = relayed(&vendor).await;
    let mut gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 1000})).await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    let ledger = Arc::new(Ledger::default());
    let clients = load(gateway.address, &key, 0, &ledger);
    for number in 0..30 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..60))).await;
        relay.set(if number % 2 == 0 { Line::Cut } else { Line::Up });
    }
    relay.set(Line::Up);
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    clients.join_all().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    gateway = gateway.revive().await;
    gateway.settled().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    assert!(ledger.answered.lock().unwrap().len() > 50, "there was a load");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_folder_or_database_is_refused() {
    let books = Books::postgres().await;
    for books in [Books::Sqlite, books] {
        let (vendor, gateway) = start(&books, json!({})).await;
        let key = gateway.key(json!({})).await;
        let folder = match &books {
            Books::Sqlite => gateway.data(),
            Books::Postgres(_) => gateway.data().with_file_name("other"),
        };
        let file = gateway.data().with_file_name("second.yaml");
        let mut configuration = books.configure(guarded(vec![serving(&vendor, "v", priced())]));
        configuration["server"] = json!({"port": crate::harness::free_port()});
        std::fs::write(&file, configuration.to_string()).unwrap();
        let second = std::process::Command::new(env!("CARGO_BIN_EXE_llmux-server"))
            .arg("--config")
            .arg(&file)
            .env_clear()
            .env("LLMUX_DATA_DIR", folder)
            .output()
            .unwrap();
        let told =
            String::from_utf8_lossy(&second.stdout) + String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(3), "{told}");
        assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_without_its_database_keeps_its_records_for_the_next_start()
{
    let vendor = Vendor::start().await;
    let (books, relay, mut configuration) = relayed(&vendor).await;
    configuration["server"] = json!({"shutdown_grace": "2s"});
    let mut gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 1})).await;
    gateway = without_notices(gateway).await;
    let ledger = Ledger::default();
    for number in 0..10 {
        let id = format!("n-{number}");
        assert_eq!(whole(gateway.address, &key, &id, number % 2 == 0).await, Some(true));
        ledger.answered.lock().unwrap().push(id);
        if number == 4 {
            relay.set(Line::Silent);
        }
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    relay.set(Line::Up);
    gateway = gateway.revive().await;
    check(&books, &gateway, &vendor, &key, &ledger).await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * 10; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_refuses_requests_until_the_database_is_back() {
    let vendor = Vendor::start().await;
    let (books, relay, mut configuration) = relayed(&vendor).await;
    configuration["spool"] = json!({"max_bytes": "64KiB", "on_full": "reject"});
    let gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 1000})).await;
    let gateway = without_notices(gateway).await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    gateway.settled().await;
    relay.set(Line::Silent);
    let mut good = 1;
    let refused = loop {
        let response = gateway.chat_as(&key, &question()).await;
        if response.status != 200 {
            break response;
        }
        good += 1;
        assert!(good < 2000, "64 KiB hold fewer records");
    };
    let error = refused.error();
    assert_eq!((refused.status, &error["code"]), (503, &json!("spool_full")), "{error}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(vendor.seen("v").len(), good, "it is refused before the vendor is called");
    relay.set(Line::Up);
    gateway.settled().await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    gateway.settled().await;
    let all = (good as i64 + 1) * COST;
    assert_eq!(books.spent(&gateway, &key.id).await, [all; 3]);
    assert!(good > 20, "{good} records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_made_without_postgresql_survive_a_kill() {
    killed_while(Line::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgresql_known_keys_go_on_and_their_records_come_later() {
    goes_on_while(Line::Cut).await;
}
