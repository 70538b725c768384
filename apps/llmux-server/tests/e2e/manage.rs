//! What the tests of the management API share: a gateway on each database, and calls to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use llmux_auth::store::{AuditFilter, Page, PostgresConfig, SqliteConfig, Store};
use llmux_auth::tenants::{AuditRecord, UnixMillis};
use llmux_types::Secret;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::auth::MASTER;
use crate::client::{PATIENCE, Response};
use crate::harness::{ANSWER, Gateway, ask, once, serving};
use crate::replay::{Reply, Vendor};

/// Where tenants are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// A gateway with a database of its own, and a vendor of model `m`, of which a call costs 0.000023 dollars.
pub(crate) struct Managed {
    pub(crate) gateway: Gateway,
    pub(crate) vendor: Vendor,
    /// The address of the PostgreSQL database.
    url: Option<String>,
}

/// The address of the tests' server, without a database.
fn server() -> String {
    std::env::var("LLMUX_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!(
            "LLMUX_TEST_POSTGRES_URL is not set: run `cargo xtask test`, or \
             `cargo xtask with-services cargo test -p llmux-server`; both start a private PostgreSQL"
        )
    })
}

/// Runs a statement in a PostgreSQL database.
async fn execute(url: &str, sql: &str) {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// Makes a database in PostgreSQL and returns its address.
pub(crate) async fn new_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let name = format!("e2e_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
    format!("{server}/{name}")
}

impl Managed {
    pub(crate) async fn start(database: Database) -> Self {
        let vendor = Vendor::start().await;
        vendor.script("m", [Reply::json(200, ANSWER)]);
        // An answer has 3 tokens in and 2 out.
        let priced = json!({"name": "m", "input_cost_per_token": 0.000_001, "output_cost_per_token": 0.000_01});
        let mut configuration = once(vec![serving(&vendor, "m", priced)]);
        configuration["auth"] = json!({"master_key": MASTER});
        let url = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(new_database().await),
        };
        if let Some(url) = &url {
            configuration["database"] = json!({"url": url, "max_open_conns": 4});
        }
        let gateway = Gateway::start(configuration).await;
        Self { gateway, vendor, url }
    }

    /// Calls a route with a key. A body of a GET is its query.
    pub(crate) async fn call(&self, key: &str, method: &str, path: &str, body: Value) -> Response {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str())];
        let (path, body) = match method {
            "GET" => (format!("{path}{}", query(&body)), String::new()),
            _ => (path.to_owned(), body.to_string()),
        };
        self.gateway.send(method, &path, &headers, body.as_bytes()).await.whole().await
    }

    /// Calls a route with the master key; it must succeed.
    #[track_caller]
    pub(crate) fn done(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let response = self.call(MASTER, method, path, body).await;
            assert_eq!(response.status, 200, "{caller}: {method} {path}: {}", response.text());
            response.json()
        }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.done("POST", path, body).await
    }

    pub(crate) async fn get(&self, path: &str, query: Value) -> Value {
        self.done("GET", path, query).await
    }

    /// Calls a route with the master key, which must refuse with this status and name this field.
    #[track_caller]
    pub(crate) fn refused(
        &self,
        method: &str,
        path: &str,
        body: Value,
        status: u16,
        param: Option<&str>,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let shown = body.to_string();
            let response = self.call(MASTER, method, path, body).await;
            let error = response.error();
            let got = (response.status, error["param"].as_str());
            assert_eq!(got, (status, param), "{caller}: {method} {path} {shown}: {error}");
            if let Some(param) = param {
                let message = error["message"].as_str().unwrap_or_default();
                let last = param.rsplit('.').next().unwrap_or_default();
                assert!(message.contains(last) || param == "body", "{caller}: {error}");
            }
        }
    }

    /// Makes a key and returns its secret.
    pub(crate) async fn key(&self, body: Value) -> String {
        let key = self.post("/key/generate", body).await;
        key["key"].as_str().expect("the secret is shown").to_owned()
    }

    /// Returns the status of a chat request with this key.
    pub(crate) async fn chat(&self, key: &str) -> u16 {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str())];
        self.gateway.chat_with("m", &headers).await.status
    }

    /// Runs a statement in its PostgreSQL database.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(self.url.as_ref().expect("the gateway uses PostgreSQL"), sql).await;
    }

    /// Waits until a key has spent so much in its present window.
    pub(crate) async fn spends(&self, key: &str, dollars: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.get("/key/info", json!({"key": key})).await;
            if info["spend"].as_f64() == Some(dollars) {
                return;
            }
            assert!(Instant::now() < deadline, "{} of {dollars} dollars", info["spend"]);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn store(&self) -> Arc<dyn Store> {
        let now = UnixMillis(0);
        match &self.url {
            None => {
                let file = self.gateway.data().join("llmux.db");
                SqliteConfig::new(file).open(now).await.unwrap()
            }
            Some(url) => {
                let mut config = PostgresConfig::new(Secret::new(url.clone()));
                config.max_connections = 1;
                config.connect(now).await.unwrap()
            }
        }
    }

    /// Returns the whole audit log, oldest first.
    pub(crate) async fn audited(&self) -> Vec<AuditRecord> {
        let filter = AuditFilter::default();
        let page = Page::first(Page::MAX_SIZE);
        let mut listed = self.store().await.list_audit(&filter, page).await.unwrap();
        assert!(listed.total <= u64::from(Page::MAX_SIZE));
        listed.data.reverse();
        listed.data
    }

    /// Returns the newest entries of the audit log.
    pub(crate) async fn audited_last(&self, count: u32) -> Vec<AuditRecord> {
        let filter = AuditFilter::default();
        self.store().await.list_audit(&filter, Page::first(count)).await.unwrap().data
    }

    /// Asserts which changes the audit log has, in any order of those of one moment: action, kind and id of the object.
    pub(crate) async fn assert_audited(&self, expected: &[(&str, &str, &str)]) {
        let records = self.audited().await;
        let mut found: Vec<(&str, &str, &str)> = records
            .iter()
            .map(|it| (it.action.as_str(), it.table_name.as_str(), it.object_id.as_str()))
            .collect();
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
        for record in &records {
            assert_eq!(record.changed_by, "master");
            assert!(record.request_id.as_ref().is_some_and(|id| !id.is_empty()));
            assert!(record.before_value.is_some() || record.updated_values.is_some(), "{record:?}");
        }
    }
}

fn query(values: &Value) -> String {
    let Some(values) = values.as_object() else { return String::new() };
    let pairs: Vec<String> = values
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let encoded: String = value
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect();
            format!("{name}={encoded}")
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Returns the ids of a list's entries.
pub(crate) fn ids(list: &Value, name: &str) -> Vec<String> {
    let data = list["data"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    data.iter().map(|entry| entry[name].as_str().unwrap().to_owned()).collect()
}

/// A chat request in full, for tests that need its answer.
pub(crate) async fn chat(managed: &Managed, key: &str) -> Response {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    let body = ask("m").to_string();
    managed
        .gateway
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .await
        .whole()
        .await
}

/// A test for each function and each database, with a gateway of its own.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    let managed = crate::manage::Managed::start(crate::manage::Database::Sqlite);
                    super::$name(managed.await).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    let managed = crate::manage::Managed::start(crate::manage::Database::Postgres);
                    super::$name(managed.await).await;
                }
            )*
        }
    };
}

pub(crate) use on_both;
