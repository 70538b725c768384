//! The suite on PostgreSQL, and what only PostgreSQL does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llmux_auth::store::{BoxFuture, Change, PostgresConfig, SslMode, Store, StoreError};
use llmux_auth::tenants::{KeyPatch, KeyRef};
use llmux_types::Secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_postgres::{Client, NoTls};

use crate::samples::{NOW, key, organization, team, user};
use crate::{all, block_on};

/// A store in a database of its own.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
}

/// The address of the tests' server, without a database.
fn server() -> String {
    match std::env::var("LLMUX_TEST_POSTGRES_URL") {
        Ok(url) => url,
        Err(_) => panic!(
            "LLMUX_TEST_POSTGRES_URL is not set: run `cargo xtask test`, or \
             `cargo xtask with-services cargo test -p llmux-auth --all-features`; both start a private PostgreSQL"
        ),
    }
}

async fn client(database: &str) -> Client {
    let config: tokio_postgres::Config = format!("{}/{database}", server()).parse().unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn new_database() -> PostgresConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    client("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut config = PostgresConfig::new(Secret::new(format!("{}/{name}", server())));
    // Tests run side by side, on a server for a hundred connections.
    config.max_connections = 4;
    config
}

async fn database_of(config: &PostgresConfig) -> Client {
    client(config.url.expose().rsplit('/').next().unwrap()).await
}

async fn open() -> Opened {
    Opened { store: new_database().await.connect(NOW).await.unwrap() }
}

all!(open);

#[test]
fn replicas_that_start_at_once_migrate_once() {
    block_on(async {
        let config = new_database().await;
        let starts = (0..4).map(|_| config.connect(NOW)).collect();
        for store in crate::suite::at_once(starts).await {
            store.unwrap().ping().await.unwrap();
        }
        let rows = database_of(&config)
            .await
            .query("SELECT version FROM schema_migrations", &[])
            .await
            .unwrap();
        assert_eq!(rows.len(), 2, "each step is written down once");
    });
}

#[test]
fn a_schema_of_a_newer_or_another_version_is_refused() {
    block_on(async {
        for (change, message) in [
            ("INSERT INTO schema_migrations VALUES (99, 'future', '', 0)", "newer"),
            ("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1", "not the one"),
        ] {
            let config = new_database().await;
            drop(config.connect(NOW).await.unwrap());
            database_of(&config).await.batch_execute(change).await.unwrap();
            let error = config.connect(NOW).await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    });
}

#[test]
fn replicas_hear_of_each_others_changes() {
    block_on(async {
        let config = new_database().await;
        let (here, there) =
            (config.connect(NOW).await.unwrap(), config.connect(NOW).await.unwrap());
        let mut changes = here.changes().await.unwrap().unwrap();
        let one = key("k");
        there.insert_key(&one).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Key(one.token.clone())));
        there.insert_user(&user("u")).await.unwrap();
        there.insert_team(&team("t"), &[]).await.unwrap();
        let id = KeyRef::TokenId("k".to_owned());
        there.update_key(&id, KeyPatch::default(), None, NOW).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Key(one.token)));
        there.delete_teams(&["t".to_owned()]).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Team("t".to_owned())));
        there.delete_users(&["u".to_owned()]).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::User("u".to_owned())));
        there.insert_organization(&organization("o"), &[]).await.unwrap();
        there.delete_organizations(&["o".to_owned()]).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Organization("o".to_owned())));
    });
}

/// Ends all connections to the database but `admin`'s.
async fn cut_off(admin: &Client) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.batch_execute(end).await.unwrap();
}

/// Waits until `count` connections to the database wait for a lock.
async fn until_waiting(admin: &Client, count: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while admin.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) != count {}
}

#[test]
fn a_lost_listener_says_that_everything_may_have_changed_and_listens_again() {
    block_on(async {
        let config = new_database().await;
        let store = config.connect(NOW).await.unwrap();
        let mut changes = store.changes().await.unwrap().unwrap();
        cut_off(&database_of(&config).await).await;
        assert_eq!(changes.next().await, Some(Change::Everything));
        // What changed in between was not heard.
        assert_eq!(changes.next().await, Some(Change::Everything));
        // The pool's connections are lost, too; it makes new ones.
        let one = key("k");
        store.insert_key(&one).await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Key(one.token)));
        drop(store);
        assert_eq!(changes.next().await, None);
    });
}

#[test]
fn a_transaction_that_is_ended_for_another_one_is_run_again() {
    block_on(async {
        let config = new_database().await;
        let store = config.connect(NOW).await.unwrap();
        for id in ["a", "b"] {
            store.insert_team(&team(id), &[]).await.unwrap();
        }
        let (other, admin) = (database_of(&config).await, database_of(&config).await);
        // The other one never looks for a deadlock itself.
        let lock = "SET deadlock_timeout = '1h'; BEGIN; UPDATE teams SET blocked = true WHERE team_id = 'b'";
        other.batch_execute(lock).await.unwrap();
        let ids = ["a".to_owned(), "b".to_owned()];
        let deletion: BoxFuture<'_, ()> = Box::pin(async {
            assert_eq!(store.delete_teams(&ids).await.unwrap().len(), 2);
        });
        let deadlock: BoxFuture<'_, ()> = Box::pin(async {
            until_waiting(&admin, 1).await;
            let lock = "UPDATE teams SET blocked = true WHERE team_id = 'a'; COMMIT";
            other.batch_execute(lock).await.unwrap();
        });
        crate::suite::at_once(vec![deletion, deadlock]).await;
    });
}

#[test]
fn an_organization_that_gets_a_team_while_it_is_deleted_is_in_use() {
    block_on(async {
        let config = new_database().await;
        let store = config.connect(NOW).await.unwrap();
        store.insert_organization(&organization("o"), &[]).await.unwrap();
        store.insert_team(&team("t"), &[]).await.unwrap();
        let (other, admin) = (database_of(&config).await, database_of(&config).await);
        let insert = "BEGIN; UPDATE teams SET organization_id = 'o'";
        other.batch_execute(insert).await.unwrap();
        let ids = ["o".to_owned()];
        let deletion: BoxFuture<'_, ()> = Box::pin(async {
            let result = store.delete_organizations(&ids).await;
            let is_in_use = matches!(&result, Err(StoreError::InUse { id, .. }) if id == "o");
            assert!(is_in_use, "{result:?}");
        });
        let commit: BoxFuture<'_, ()> = Box::pin(async {
            until_waiting(&admin, 1).await;
            other.batch_execute("COMMIT").await.unwrap();
        });
        crate::suite::at_once(vec![deletion, commit]).await;
    });
}

#[test]
fn updates_leave_alone_what_accounting_writes() {
    block_on(async {
        let config = new_database().await;
        let store = config.connect(NOW).await.unwrap();
        let mut one = key("k");
        one.budget.set_duration(Some("1h".parse().unwrap()), NOW);
        store.insert_key(&one).await.unwrap();
        let guard = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                     $$BEGIN RAISE EXCEPTION 'accounting'; END$$; \
                     CREATE TRIGGER guard BEFORE UPDATE OF spend, spend_since, model_spend, budget_reset_at, \
                     budget_anchor_at ON keys FOR EACH ROW EXECUTE FUNCTION refuse()";
        database_of(&config).await.batch_execute(guard).await.unwrap();
        let id = KeyRef::TokenId("k".to_owned());
        let patch = |text: &str| -> KeyPatch { serde_json::from_str(text).unwrap() };
        let later = NOW.plus(10 * 3_600_000);
        let limits = patch(r#"{"rpm_limit": 5, "max_budget": 2, "key_alias": "a"}"#);
        let updated = store.update_key(&id, limits, None, later).await.unwrap();
        assert_eq!(store.key(&id, later).await.unwrap().unwrap(), updated.after);
        let window = patch(r#"{"budget_duration": "1d"}"#);
        assert!(store.update_key(&id, window, None, later).await.is_err());
    });
}

#[test]
fn a_call_that_nobody_waits_for_is_finished() {
    block_on(async {
        let config = new_database().await;
        let store = config.connect(NOW).await.unwrap();
        let (other, admin) = (database_of(&config).await, database_of(&config).await);
        other.batch_execute("BEGIN; LOCK TABLE keys").await.unwrap();
        let one = key("k");
        {
            let mut insertion = store.insert_key(&one);
            let mut waiting = Box::pin(until_waiting(&admin, 1));
            std::future::poll_fn(|context| {
                assert!(insertion.as_mut().poll(context).is_pending());
                waiting.as_mut().poll(context)
            })
            .await;
        }
        let mut changes = store.changes().await.unwrap().unwrap();
        other.batch_execute("COMMIT").await.unwrap();
        assert_eq!(changes.next().await, Some(Change::Key(one.token)));
    });
}

#[test]
fn a_store_that_wants_the_database_for_itself_gets_it_alone() {
    block_on(async {
        let mut config = new_database().await;
        let shared = config.connect(NOW).await.unwrap();
        config.exclusive = true;
        let first = config.connect(NOW).await.unwrap();
        let refused = config.connect(NOW).await;
        assert!(matches!(refused, Err(StoreError::Taken)), "{refused:?}");
        // A lost connection is made again, and nobody else wants the lock.
        cut_off(&database_of(&config).await).await;
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let admin = database_of(&config).await;
        while admin.query_one(held, &[]).await.unwrap().get::<_, i64>(0) != 1 {}
        let refused = config.connect(NOW).await;
        assert!(matches!(refused, Err(StoreError::Taken)), "{refused:?}");
        first.ping().await.unwrap();
        drop(first);
        config.connect(NOW).await.unwrap().ping().await.unwrap();
        shared.ping().await.unwrap();
    });
}

#[test]
fn a_store_that_lost_its_database_to_another_says_so() {
    block_on(async {
        let mut config = new_database().await;
        config.exclusive = true;
        let store = config.connect(NOW).await.unwrap();
        // Somebody waits for the lock, and gets it when its holder is cut off.
        let admin = database_of(&config).await;
        let number = "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks \
                      WHERE locktype = 'advisory' AND granted \
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let number = admin.query_one(number, &[]).await.unwrap().get::<_, i64>(0);
        let other = database_of(&config).await;
        let lock = format!("SELECT pg_advisory_lock({number})");
        let taking: BoxFuture<'_, ()> =
            Box::pin(async { other.batch_execute(&lock).await.unwrap() });
        let cutting: BoxFuture<'_, ()> = Box::pin(async {
            until_waiting(&admin, 1).await;
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' \
                       AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            admin.batch_execute(end).await.unwrap();
        });
        crate::suite::at_once(vec![taking, cutting]).await;
        while store.ping().await.is_ok() {}
        let result = store.ping().await;
        assert!(matches!(result, Err(StoreError::Taken)), "{result:?}");
        drop(other);
        while store.ping().await.is_err() {}
    });
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    block_on(async {
        let config = PostgresConfig::new(Secret::new("postgres://u:secret@127.0.0.1:1/none"));
        let error = config.connect(NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(!format!("{error:?} {config:?}").contains("secret"));
    });
}

#[test]
fn an_address_that_cannot_be_read_is_not_repeated() {
    block_on(async {
        let config = PostgresConfig::new(Secret::new("postgres://u:secret@host:port/none"));
        let error = config.connect(NOW).await.unwrap_err();
        assert!(matches!(&error, StoreError::Invalid { field, .. } if field == "url"), "{error:?}");
        assert!(!format!("{error:?}").contains("secret"));
    });
}

/// An authority, and a certificate of it for `localhost`: the authority's certificate, the server's, and its key, in PEM.
fn certificates() -> [String; 3] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    [root, server.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem()]
}

/// Has the server take encrypted connections, too. Its files must be its own.
async fn encrypt(certificate: &str, key: &str) {
    let admin = client("postgres").await;
    for (file, text) in [("server.crt", certificate), ("server.key", key)] {
        let copy = format!(
            "COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'"
        );
        admin.batch_execute(&copy).await.unwrap();
    }
    set_encryption("on").await;
}

async fn set_encryption(wanted: &str) {
    let admin = client("postgres").await;
    admin.batch_execute(&format!("ALTER SYSTEM SET ssl = {wanted}")).await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // New connections have the settings that the server has read by then.
    for _ in 0..10_000 {
        let row =
            client("postgres").await.query_one("SELECT current_setting('ssl')", &[]).await.unwrap();
        if row.get::<_, &str>(0) == wanted {
            return;
        }
    }
    panic!("the server does not read its settings");
}

#[test]
fn connections_are_encrypted_and_servers_verified_as_configured() {
    block_on(async {
        // The server may have been used before.
        set_encryption("off").await;
        let mut config = new_database().await;
        for mode in [SslMode::Require, SslMode::VerifyFull] {
            config.ssl_mode = mode;
            let result = config.connect(NOW).await;
            assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{mode:?} in the clear");
        }
        let [root, certificate, key] = certificates();
        encrypt(&certificate, &key).await;
        let folder = std::env::temp_dir();
        let file = |name: &str, text: &str| {
            let path = folder.join(format!("llmux-{}-{name}.pem", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path
        };
        let (ours, foreign) = (file("ours", &root), file("foreign", &certificates()[0]));
        let by_address = config.url.clone();
        let by_name = Secret::new(by_address.expose().replace("127.0.0.1", "localhost"));
        for (mode, authority, url, works) in [
            (SslMode::Prefer, None, &by_address, true),
            (SslMode::Require, None, &by_address, true),
            (SslMode::Require, Some(&ours), &by_address, true),
            (SslMode::Require, Some(&foreign), &by_address, false),
            (SslMode::VerifyFull, Some(&ours), &by_name, true),
            (SslMode::VerifyFull, Some(&ours), &by_address, false),
            (SslMode::VerifyFull, Some(&foreign), &by_name, false),
            (SslMode::VerifyFull, None, &by_name, false),
        ] {
            config.ssl_mode = mode;
            config.ca_file = authority.cloned();
            config.url = url.clone();
            let result = config.connect(NOW).await;
            assert_eq!(result.is_ok(), works, "{mode:?} {authority:?} {url:?}: {result:?}");
            if let Ok(store) = result {
                let count = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                             WHERE ssl AND datname = current_database()";
                let row = database_of(&config).await.query_one(count, &[]).await.unwrap();
                assert!(row.get::<_, i64>(0) >= 1, "{mode:?}");
                store.ping().await.unwrap();
            }
        }
        config.ca_file = Some(file("none", "no certificate"));
        let result = config.connect(NOW).await;
        assert!(
            matches!(&result, Err(StoreError::Invalid { field, .. }) if field == "ca_file"),
            "{result:?}"
        );
        for name in ["ours", "foreign", "none"] {
            std::fs::remove_file(folder.join(format!("llmux-{}-{name}.pem", std::process::id())))
                .unwrap();
        }
    });
}
