//! Tenants for tests, calls in their name, and what the gateway has written about them, read past the gateway.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::auth::MASTER;
use crate::client::{PATIENCE, Request, Response, send};
use crate::harness::{Gateway, serving};
use crate::replay::{Reply, Vendor};

/// Where the gateway under test keeps its tenants and records.
#[derive(Clone, Debug)]
pub(crate) enum Books {
    /// In its data folder.
    Sqlite,
    /// In a database of its own: its address.
    Postgres(String),
}

impl Books {
    /// A new database on the tests' PostgreSQL server.
    pub(crate) async fn postgres() -> Self {
        Self::Postgres(crate::manage::new_database().await)
    }

    /// Both kinds.
    pub(crate) async fn both() -> [Self; 2] {
        [Self::Sqlite, Self::postgres().await]
    }

    /// Adds the database to a configuration.
    pub(crate) fn configure(&self, mut configuration: Value) -> Value {
        if let Self::Postgres(url) = self {
            configuration["database"] = json!({"url": url, "max_open_conns": 4});
        }
        configuration
    }

    /// Runs a query that changes nothing. Each row is an object by column.
    pub(crate) async fn query(&self, gateway: &Gateway, sql: &str) -> Vec<Value> {
        match self {
            Self::Sqlite => sqlite(&gateway.data().join("llmux.db"), sql),
            Self::Postgres(url) => {
                let sql = format!("SELECT row_to_json(row)::text FROM ({sql}) AS row");
                let rows = client(url).await.query(&sql, &[]).await.unwrap();
                rows.iter()
                    .map(|row| serde_json::from_str(row.get::<_, &str>(0)).unwrap())
                    .collect()
            }
        }
    }

    /// The one number that a query gives; what is not there is 0.
    pub(crate) async fn number(&self, gateway: &Gateway, sql: &str) -> i64 {
        let rows = self.query(gateway, sql).await;
        let value = rows.first().and_then(|row| row.as_object()?.values().next().cloned());
        match value {
            None | Some(Value::Null) => 0,
            // PostgreSQL sums whole numbers to a decimal.
            Some(value) => value.as_i64().unwrap_or_else(|| panic!("{value} of {sql}")),
        }
    }

    /// The records of attempts, in the order in which they began.
    pub(crate) async fn records(&self, gateway: &Gateway) -> Vec<Value> {
        self.query(gateway, "SELECT * FROM usage_records ORDER BY start_time, request_id, attempt")
            .await
    }

    /// The records of one request, by attempt.
    pub(crate) async fn records_of(&self, gateway: &Gateway, request_id: &str) -> Vec<Value> {
        let sql = format!(
            "SELECT * FROM usage_records WHERE request_id = '{request_id}' ORDER BY attempt"
        );
        self.query(gateway, &sql).await
    }

    /// What a key has spent: by its own row, by its records, and by the sums of the days, in nano-dollars.
    pub(crate) async fn spent(&self, gateway: &Gateway, token_id: &str) -> [i64; 3] {
        let sum = |table: &str, column: &str| {
            format!(
                "SELECT CAST(SUM({column}) AS BIGINT) AS n FROM {table} WHERE token_id = '{token_id}'"
            )
        };
        [
            self.number(gateway, &sum("keys", "spend")).await,
            self.number(gateway, &sum("usage_records", "spend")).await,
            self.number(gateway, &sum("daily_usage", "spend")).await,
        ]
    }
}

async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn sqlite(file: &std::path::Path, sql: &str) -> Vec<Value> {
    use rusqlite::types::ValueRef;
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    assert!(statement.readonly(), "{sql}");
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let value = |index: usize| -> rusqlite::Result<Value> {
            Ok(match row.get_ref(index)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => json!(number),
                ValueRef::Real(number) => json!(number),
                ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
                ValueRef::Blob(bytes) => json!(bytes),
            })
        };
        let fields = names.iter().enumerate();
        fields.map(|(index, name)| Ok((name.clone(), value(index)?))).collect()
    });
    rows.unwrap().map(|row| Value::Object(row.unwrap())).collect()
}

/// A virtual key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) secret: String,
    pub(crate) id: String,
}

impl Gateway {
    /// Calls a route of the management plane, which must answer 200.
    pub(crate) async fn manage(&self, path: &str, body: &Value) -> Value {
        let response = self.administer("POST", path, &body.to_string()).await;
        assert_eq!(response.status, 200, "{path} {body}: {}", response.text());
        response.json()
    }

    /// Makes a key with these fields.
    pub(crate) async fn key(&self, fields: Value) -> Key {
        let made = self.manage("/key/generate", &fields).await;
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Key { secret: text("key"), id: text("token_id") }
    }

    /// Sends a chat request as the holder of a key.
    pub(crate) async fn chat_as(&self, key: &Key, body: &Value) -> Response {
        chat_as(self.address, &key.secret, body, &[]).await
    }

    /// Sends the same request `count` times at once, in turn by these keys, and returns the answers, read whole.
    pub(crate) fn crowd(&self, keys: &[Key], count: usize, body: &Value) -> JoinSet<Response> {
        let mut crowd = JoinSet::new();
        for number in 0..count {
            let (address, body) = (self.address, body.clone());
            let secret = keys[number % keys.len()].secret.clone();
            crowd.spawn(async move { chat_as(address, &secret, &body, &[]).await });
        }
        crowd
    }

    /// What is under way, by the gateway's own account.
    pub(crate) async fn state(&self) -> Value {
        self.state_as(MASTER).await
    }

    async fn state_as(&self, master: &str) -> Value {
        let headers = [("x-api-key", master)];
        let response = self.send("GET", "/control/state", &headers, b"").await.whole().await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Waits until nothing is reserved and all records are in the database.
    pub(crate) async fn settled(&self) -> Value {
        self.settled_as(MASTER).await
    }

    /// The same, where the master key is another one.
    pub(crate) async fn settled_as(&self, master: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state_as(master).await;
            let zero = |pointer: &str| {
                let value =
                    state.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}: {state}"));
                value.as_i64() == Some(0) || value.as_f64() == Some(0.0)
            };
            if zero("/reservations/requests")
                && zero("/reservations/money")
                && zero("/spool/backlog_bytes")
            {
                return state;
            }
            assert!(Instant::now() < deadline, "it does not settle: {state}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Sends a chat request as the holder of a key.
pub(crate) async fn chat_as(
    address: SocketAddr,
    secret: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> Response {
    let bearer = format!("Bearer {secret}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    let body = body.to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &all,
        body: body.as_bytes(),
    };
    send(address, &request).await.whole().await
}

/// A configuration with the data plane behind keys, and without retries.
pub(crate) fn guarded(providers: Vec<Value>) -> Value {
    json!({"auth": {"master_key": MASTER}, "providers": providers, "routing": {"retry_count": 0}})
}

/// A chat answer with this usage.
pub(crate) fn used(prompt: u64, completion: u64) -> Reply {
    Reply::json(
        200,
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "served",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": usage(prompt, completion),
        })
        .to_string(),
    )
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// A stream with this usage at its end.
pub(crate) fn streamed(prompt: u64, completion: u64) -> Reply {
    let last = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [], "usage": usage(prompt, completion)});
    Reply::events([
        crate::harness::role(),
        crate::harness::text("hello"),
        crate::harness::STOP.to_owned(),
        last.to_string(),
        "[DONE]".to_owned(),
    ])
}

/// What one answer of exactly `TOKENS` tokens costs at [`PRICE`], in nano-dollars.
pub(crate) const COST: i64 = 12_300;
/// The `max_tokens` of requests.
pub(crate) const TOKENS: u64 = 100;
/// US dollars for a token of an answer; the question is free.
pub(crate) const PRICE: f64 = 0.000_000_123;

/// Turns nano-dollars into US dollars, as an operator writes them.
pub(crate) fn dollars(nano: i64) -> Value {
    serde_json::from_str(&format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)).unwrap()
}

/// The model `m` at [`PRICE`].
pub(crate) fn priced() -> Value {
    json!({"name": "m", "input_cost_per_token": 0, "output_cost_per_token": PRICE})
}

/// A request to the model `m` for at most [`TOKENS`] tokens.
pub(crate) fn question() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS})
}

/// A gateway before one vendor named `v`, which answers with exactly [`TOKENS`] tokens, with more settings of the gateway.
pub(crate) async fn start(books: &Books, more: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("v", [used(10, TOKENS)]);
    let mut configuration = guarded(vec![serving(&vendor, "v", priced())]);
    configuration.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let gateway = Gateway::start(books.configure(configuration)).await;
    (vendor, gateway)
}
