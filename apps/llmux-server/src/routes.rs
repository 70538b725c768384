//! The HTTP routes, and what every response gets.

mod path;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use llmux_auth::roles::{Action as Deed, Actor, Target};
use llmux_auth::{Admitted, Caller};
use llmux_providers::Endpoint;
use serde::Serialize;
use serde_json::json;

pub(crate) use self::path::decoded;

use self::path::Path;
use crate::attempt::Resolved;
use crate::body::{Body, Reply};
use crate::catalog::Listed;
use crate::collect::{discard, read_body};
use crate::config::Settings;
use crate::error::ApiError;
use crate::exchange::{Exchange, Lookup, Outcome};
use crate::gateway::{Gateway, Snapshot, Worker};
use crate::json_line;
use crate::manage::{self, Operation};
use crate::timed_io::Busy;
use crate::{control, headers, metrics, proxy, tenants};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everyone.
    Public,
    /// Holders of a key, everyone on an open data plane.
    Caller,
    /// On the management plane, those with at least this role: in what it is about, for team and organization admins;
    /// in what is their own, for users. See [`llmux_auth::roles`], which decides.
    Manager(&'static str),
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Caller => "caller",
            Self::Manager(role) => role,
        }
    }

    /// Tells whether a port has the routes of this role.
    fn is_at(self, port: Port, admin_port: u16) -> bool {
        match self {
            Self::Public => true,
            Self::Caller => port == Port::Main,
            Self::Manager(_) => port == Port::Admin || admin_port == 0,
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Proxy(Endpoint),
    Models,
    Model,
    Live,
    Ready,
    Health,
    Metrics,
    OpenApi,
    Explain,
    Deployments,
    State,
    Config,
    Reload,
    SetCooldown,
    CacheStats,
    CacheFlush,
    Manage(Operation),
}

/// One route. Its path is written as clients know it best; see [`Path`] for the other spellings.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) role: Role,
    pub(crate) action: Action,
}

const fn proxied(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: "POST", path, role: Role::Caller, action: Action::Proxy(endpoint) }
}

const fn read(path: &'static str, role: Role, action: Action) -> Route {
    Route { method: "GET", path, role, action }
}

const fn manage(
    method: &'static str,
    path: &'static str,
    role: &'static str,
    operation: Operation,
) -> Route {
    Route { method, path, role: Role::Manager(role), action: Action::Manage(operation) }
}

/// A route of the whole gateway.
const fn control(
    method: &'static str,
    path: &'static str,
    role: &'static str,
    action: Action,
) -> Route {
    Route { method, path, role: Role::Manager(role), action }
}

static ROUTES: &[Route] = &[
    proxied("/v1/chat/completions", Endpoint::ChatCompletions),
    proxied("/v1/completions", Endpoint::Completions),
    proxied("/v1/embeddings", Endpoint::Embeddings),
    proxied("/v1/responses", Endpoint::Responses),
    proxied("/v1/moderations", Endpoint::Moderations),
    proxied("/v1/images/generations", Endpoint::ImagesGenerations),
    proxied("/v1/audio/speech", Endpoint::AudioSpeech),
    proxied("/v1/audio/transcriptions", Endpoint::AudioTranscriptions),
    proxied("/v1/audio/translations", Endpoint::AudioTranslations),
    proxied("/v1/messages", Endpoint::Messages),
    proxied("/v1/messages/count_tokens", Endpoint::CountTokens),
    read("/v1/models", Role::Caller, Action::Models),
    read("/v1/models/{id}", Role::Caller, Action::Model),
    read("/health", Role::Public, Action::Health),
    read("/health/live", Role::Public, Action::Live),
    read("/health/ready", Role::Public, Action::Ready),
    read("/openapi.json", Role::Public, Action::OpenApi),
    control("GET", "/control/deployments", ADMIN_VIEWER, Action::Deployments),
    control("GET", "/control/state", ADMIN_VIEWER, Action::State),
    control("POST", "/control/deployments/cooldown", ADMIN, Action::SetCooldown),
    control("GET", "/control/config", ADMIN_VIEWER, Action::Config),
    control("POST", "/control/config/reload", ADMIN, Action::Reload),
    control("GET", "/cache/stats", ADMIN_VIEWER, Action::CacheStats),
    control("POST", "/cache/flush", ADMIN, Action::CacheFlush),
    control("POST", "/route/explain", ADMIN_VIEWER, Action::Explain),
    manage("POST", "/key/generate", USER, Operation::KeyGenerate),
    manage("POST", "/key/update", USER, Operation::KeyUpdate),
    manage("POST", "/key/delete", USER, Operation::KeyDelete),
    manage("POST", "/key/block", USER, Operation::KeyBlock),
    manage("POST", "/key/unblock", USER, Operation::KeyUnblock),
    manage("POST", "/key/regenerate", USER, Operation::KeyRegenerate),
    manage("GET", "/key/info", "key", Operation::KeyInfo),
    manage("GET", "/key/list", VIEWER, Operation::KeyList),
    manage("POST", "/team/new", ORG_ADMIN, Operation::TeamNew),
    manage("POST", "/team/update", TEAM_ADMIN, Operation::TeamUpdate),
    manage("POST", "/team/delete", ORG_ADMIN, Operation::TeamDelete),
    manage("POST", "/team/block", ORG_ADMIN, Operation::TeamBlock),
    manage("POST", "/team/unblock", ORG_ADMIN, Operation::TeamUnblock),
    manage("POST", "/team/member_add", TEAM_ADMIN, Operation::TeamMemberAdd),
    manage("POST", "/team/member_delete", TEAM_ADMIN, Operation::TeamMemberDelete),
    manage("POST", "/team/member_update", TEAM_ADMIN, Operation::TeamMemberUpdate),
    manage("GET", "/team/info", VIEWER, Operation::TeamInfo),
    manage("GET", "/team/list", VIEWER, Operation::TeamList),
    manage("POST", "/user/new", ADMIN, Operation::UserNew),
    manage("POST", "/user/update", ADMIN, Operation::UserUpdate),
    manage("POST", "/user/delete", ADMIN, Operation::UserDelete),
    manage("GET", "/user/info", VIEWER, Operation::UserInfo),
    manage("GET", "/user/list", VIEWER, Operation::UserList),
    manage("POST", "/organization/new", ADMIN, Operation::OrganizationNew),
    manage("PATCH", "/organization/update", ADMIN, Operation::OrganizationUpdate),
    manage("POST", "/organization/update", ADMIN, Operation::OrganizationUpdate),
    manage("DELETE", "/organization/delete", ADMIN, Operation::OrganizationDelete),
    manage("POST", "/organization/delete", ADMIN, Operation::OrganizationDelete),
    manage("GET", "/organization/info", ORG_ADMIN, Operation::OrganizationInfo),
    manage("GET", "/organization/list", ORG_ADMIN, Operation::OrganizationList),
    manage("GET", "/organization/members", ORG_ADMIN, Operation::OrganizationMembers),
    manage("POST", "/organization/member_add", ORG_ADMIN, Operation::OrganizationMemberAdd),
    manage("PATCH", "/organization/member_update", ORG_ADMIN, Operation::OrganizationMemberUpdate),
    manage("POST", "/organization/member_update", ORG_ADMIN, Operation::OrganizationMemberUpdate),
    manage("DELETE", "/organization/member_delete", ORG_ADMIN, Operation::OrganizationMemberDelete),
    manage("POST", "/organization/member_delete", ORG_ADMIN, Operation::OrganizationMemberDelete),
    manage("GET", "/spend/logs", "key", Operation::SpendLogs),
    manage("GET", "/spend/keys", VIEWER, Operation::SpendKeys),
    manage("GET", "/spend/teams", VIEWER, Operation::SpendTeams),
    manage("GET", "/spend/users", VIEWER, Operation::SpendUsers),
    manage("GET", "/global/activity", ADMIN_VIEWER, Operation::GlobalActivity),
    manage("GET", "/global/spend/models", ADMIN_VIEWER, Operation::GlobalModels),
    manage("GET", "/global/spend/provider", ADMIN_VIEWER, Operation::GlobalProviders),
    manage("GET", "/audit/logs", ADMIN_VIEWER, Operation::AuditLogs),
];

const ADMIN: &str = "proxy_admin";
const ADMIN_VIEWER: &str = "proxy_admin_viewer";
const ORG_ADMIN: &str = "org_admin";
const TEAM_ADMIN: &str = "team_admin";
const USER: &str = "internal_user";
const VIEWER: &str = "internal_user_viewer";

/// The largest body of a request to the management plane, in bytes.
const MAX_MANAGEMENT_BODY: usize = 1024 * 1024;

/// Where metrics are: the configuration says it.
const METRICS: &str = "{metrics.path}";
static METRICS_ROUTE: Route = read(METRICS, Role::Public, Action::Metrics);

/// Where the management plane's paths begin.
static MANAGEMENT: [&str; 14] = [
    "/key/",
    "/team/",
    "/user/",
    "/organization/",
    "/spend/",
    "/global/",
    "/audit/",
    "/control/",
    "/route/",
    "/cache/",
    "/budget/",
    "/customer/",
    "/model/",
    "/invitation/",
];

/// Lists the routes, one a line: method, path, role.
pub(crate) fn list() -> String {
    let line =
        |route: &Route| format!("{:<6} {:<30} {}\n", route.method, route.path, route.role.as_str());
    ROUTES.iter().chain([&METRICS_ROUTE]).map(line).collect()
}

/// Returns the routes that a port has.
pub(crate) fn at(port: Port, settings: &Settings) -> impl Iterator<Item = &'static Route> {
    let admin_port = settings.server.admin_port;
    let metrics = settings.metrics.enabled && (port == Port::Admin || admin_port == 0);
    let here = move |route: &&Route| route.role.is_at(port, admin_port);
    ROUTES.iter().filter(here).chain(metrics.then_some(&METRICS_ROUTE))
}

/// Tells whether something else is at a path.
pub(crate) fn is_taken(path: &str) -> bool {
    let spelled = Path::of(path);
    ROUTES.iter().any(|route| spelled.is(route))
        || MANAGEMENT.iter().any(|prefix| path.starts_with(prefix))
}

/// Returns what is called at the path of a data-plane route.
pub(crate) fn endpoint_of(path: &str) -> Option<Endpoint> {
    ROUTES.iter().find_map(|route| match route.action {
        Action::Proxy(endpoint) if route.path == path => Some(endpoint),
        _ => None,
    })
}

/// Returns the paths of the data-plane routes where something is called.
pub(crate) fn called() -> impl Iterator<Item = &'static str> {
    let is_call = |route: &&Route| matches!(route.action, Action::Proxy(_));
    ROUTES.iter().filter(is_call).map(|route| route.path)
}

/// Which listener a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The data plane, and the management plane where it has no port of its own.
    Main,
    /// The management plane only.
    Admin,
}

/// A connection's part in its requests.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) worker: Worker,
    pub(crate) peer: IpAddr,
    pub(crate) port: Port,
    pub(crate) busy: Busy,
}

/// Answers one request.
pub(crate) async fn handle(connection: Connection, request: Request<Incoming>) -> Response<Body> {
    let gateway = &connection.worker.gateway;
    let request_id = headers::request_id(request.headers());
    let snapshot = gateway.current();
    let trusted = &snapshot.settings.server.trusted_proxies;
    let client_ip = headers::client_ip(connection.peer, request.headers(), trusted);
    let busy = connection.busy.enter();
    let mut exchange =
        Exchange::open(gateway, snapshot, busy, request_id.clone(), client_ip, request.method());
    exchange.join_trace(request.headers());

    let (head, mut body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let path = Path::of(head.uri.path());
    let anthropic = path.is_anthropic();
    let dispatch = dispatch(&connection, path, head, &mut body, &mut exchange);
    let (mut response, admitted) = match Guarded(Box::pin(dispatch)).await {
        Ok(answered) => answered,
        Err(error) => {
            exchange.note_error(&error.error);
            if let Some(refusal) = error.refusal {
                gateway.metrics.refused(refusal);
            }
            if error.status != StatusCode::REQUEST_TIMEOUT {
                discard(body);
            }
            (error.response(anthropic).map(Reply::Whole), None)
        }
    };
    if is_head {
        // Its body is never asked for.
        exchange.line.outcome = Outcome::Ok;
    }
    exchange.line.status = response.status().as_u16();
    exchange.line.overhead = Some(exchange.overhead());
    add_headers(&mut response, &exchange);
    response.map(|reply| Body::new(reply, exchange, admitted))
}

/// Turns a panic of a handler into an answer: the other requests of its connection and worker go on.
struct Guarded<F>(Pin<Box<F>>);

impl<F: Future<Output = Result<Answered, ApiError>>> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // The handler is not polled again after a panic; what it shares with others is sound at any point.
        let poll = AssertUnwindSafe(|| self.0.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|_| Poll::Ready(Err(ApiError::internal())))
    }
}

/// Adds our own headers.
fn add_headers(response: &mut Response<Reply>, exchange: &Exchange) {
    let line = &exchange.line;
    let map = response.headers_mut();
    map.insert(headers::X_REQUEST_ID, line.request_id.clone());
    headers::add_standing(map, &exchange.standing);
    let mut set = |name: &'static str, value: Result<HeaderValue, _>| {
        // Configured names may have characters that no header has.
        if let Ok(value) = value {
            map.insert(HeaderName::from_static(name), value);
        }
    };
    if line.soft_budget.is_some() {
        set("x-llmux-soft-budget", Ok(HeaderValue::from_static("exceeded")));
    }
    if let Some(cache) = line.cache {
        set("x-llmux-cache", Ok(HeaderValue::from_static(cache.as_str())));
    }
    if line.attempts > 0 {
        let name = |name: &Option<String>| HeaderValue::from_str(name.as_deref().unwrap_or(""));
        set("x-llmux-deployment", name(&line.deployment));
        set("x-llmux-provider", name(&line.provider));
        set("x-llmux-attempts", Ok(HeaderValue::from(line.attempts)));
    } else if line.cache != Some(Lookup::Hit) {
        return;
    }
    // The cost of a stream is not known when its head leaves.
    if let Some(cost) = line.cost.filter(|_| !line.stream) {
        set("x-llmux-response-cost", HeaderValue::try_from(cost.to_string()));
    }
    let mut overhead = Vec::with_capacity(16);
    json_line::milliseconds(&mut overhead, line.overhead.unwrap_or_default());
    set("x-llmux-overhead-ms", HeaderValue::try_from(overhead));
}

type Answered = (Response<Reply>, Option<Admitted>);

async fn dispatch(
    connection: &Connection,
    path: Path,
    head: Parts,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<Answered, ApiError> {
    let worker = &connection.worker;
    let gateway = &worker.gateway;
    let admin_port = exchange.snapshot.settings.server.admin_port;
    let mut found: Vec<&Route> = ROUTES.iter().filter(|route| path.is(route)).collect();
    let serves_metrics = connection.port == Port::Admin || admin_port == 0;
    if serves_metrics && exchange.snapshot.settings.metrics.is_at(head.uri.path()) {
        found = vec![&METRICS_ROUTE];
    }
    if !found.iter().any(|route| route.role.is_at(connection.port, admin_port)) {
        return elsewhere(connection, &head, exchange).await;
    }
    let method = match head.method {
        Method::HEAD => "GET",
        ref method => method.as_str(),
    };
    let Some(route) = found.iter().find(|route| route.method == method) else {
        let allow = found.iter().flat_map(|route| match route.method {
            "GET" => vec!["GET", "HEAD"],
            other => vec![other],
        });
        return Err(ApiError::method_not_allowed(allow.collect::<Vec<_>>().join(", ")));
    };
    exchange.line.route = route.path;
    let caller = match route.role {
        Role::Manager(_) => manager(gateway, &head, exchange).await?,
        Role::Public | Role::Caller => Caller::Anonymous,
    };
    match route.action {
        Action::Proxy(endpoint) => {
            let model = path.deployment.clone();
            proxy::call(worker, endpoint, model, head, body, exchange).await
        }
        Action::Models => {
            let caller = identify(gateway, &head, exchange).await?;
            Ok((models(gateway, &exchange.snapshot, &caller)?, None))
        }
        Action::Model => {
            let caller = identify(gateway, &head, exchange).await?;
            Ok((model(gateway, &exchange.snapshot, &path, &caller)?, None))
        }
        Action::Live => {
            exchange.unlogged();
            Ok((json_response(StatusCode::OK, &json!({"status": "ok"})), None))
        }
        Action::Ready | Action::Health => {
            exchange.unlogged();
            let state = match (gateway.is_draining(), gateway.spool.refuses()) {
                (true, _) => "draining",
                (false, true) => "spool_full",
                (false, false) => "ok",
            };
            let unready = state != "ok" && route.action == Action::Ready;
            let mut body = json!({ "status": state });
            if route.action == Action::Health {
                let rejected = gateway.reloading.is_rejected();
                body["configuration"] = if rejected { "rejected" } else { "ok" }.into();
            }
            let status = if unready { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            let mut response = json_response(status, &body);
            if unready {
                response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(1));
            }
            Ok((response, None))
        }
        Action::Metrics => {
            exchange.unlogged();
            exchange.line.route = "metrics";
            Ok((metrics::answer(gateway, &head, exchange).await?, None))
        }
        Action::OpenApi => {
            tenants::no_web_page(gateway, &head)?;
            let text = exchange.snapshot.described(connection.port);
            Ok((json_text_response(StatusCode::OK, text), None))
        }
        Action::Manage(operation) => {
            let limit = MAX_MANAGEMENT_BODY;
            let body = read_body(&head.headers, body, limit, exchange).await?;
            let query = head.uri.query();
            Ok((manage::call(gateway, operation, &caller, query, body, exchange).await?, None))
        }
        Action::Deployments => {
            check(&caller, Deed::Read)?;
            Ok((control::deployments(gateway), None))
        }
        Action::State => {
            check(&caller, Deed::Read)?;
            Ok((control::state(gateway), None))
        }
        Action::Config => {
            check(&caller, Deed::Read)?;
            Ok((control::config(gateway).await?, None))
        }
        Action::Reload => {
            let body = read_body(&head.headers, body, MAX_MANAGEMENT_BODY, exchange).await?;
            check(&caller, Deed::Change)?;
            let call = manage::Call::new(gateway, &caller, exchange);
            Ok((control::reload(gateway, &call, &body).await?, None))
        }
        Action::CacheStats => {
            check(&caller, Deed::Read)?;
            Ok((control::cache_stats(gateway, &exchange.snapshot), None))
        }
        Action::CacheFlush => {
            check(&caller, Deed::Change)?;
            Ok((control::cache_flush(gateway, &caller, exchange).await?, None))
        }
        Action::Explain => {
            check(&caller, Deed::Read)?;
            let limit = exchange.snapshot.settings.server.max_body_bytes;
            let body = read_body(&head.headers, body, limit, exchange).await?;
            Ok((control::explain(gateway, head, body, exchange)?, None))
        }
        Action::SetCooldown => {
            let limit = MAX_MANAGEMENT_BODY;
            let body = read_body(&head.headers, body, limit, exchange).await?;
            check(&caller, Deed::Change)?;
            let call = manage::Call::new(gateway, &caller, exchange);
            Ok((control::set_cooldown(gateway, &call, &body).await?, None))
        }
    }
}

/// Answers what is no route: paths that are not built, behind the guard of their plane, and unknown ones.
async fn elsewhere(
    connection: &Connection,
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Answered, ApiError> {
    let gateway = &connection.worker.gateway;
    let raw = head.uri.path();
    let management_here =
        connection.port == Port::Admin || exchange.snapshot.settings.server.admin_port == 0;
    if management_here && MANAGEMENT.iter().any(|prefix| raw.starts_with(prefix)) {
        exchange.line.route = "management";
        let caller = manager(gateway, head, exchange).await?;
        check(&caller, Deed::Read)?;
        return Err(ApiError::unsupported_endpoint());
    }
    exchange.line.route = "unknown";
    Err(ApiError::unknown_path(&head.method, raw))
}

/// Finds out who is calling, or refuses.
async fn identify(
    gateway: &Gateway,
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Caller, ApiError> {
    let caller = tenants::caller(gateway, head).await?;
    exchange.line.caller = Some(caller.clone());
    Ok(caller)
}

/// Finds out who is calling the management plane.
async fn manager(
    gateway: &Gateway,
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Caller, ApiError> {
    let caller = tenants::manager(gateway, head).await?;
    exchange.line.caller = Some(caller.clone());
    Ok(caller)
}

/// Refuses who may not do this with the gateway as a whole.
fn check(caller: &Caller, action: Deed) -> Result<(), ApiError> {
    if Actor::of(caller).may(action, &Target::Gateway) {
        Ok(())
    } else {
        Err(ApiError::not_permitted())
    }
}

pub(crate) fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Reply> {
    let text = serde_json::to_vec(body).expect("texts and numbers are always JSON");
    json_text_response(status, Bytes::from(text))
}

pub(crate) fn json_text_response(status: StatusCode, text: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// <https://platform.openai.com/docs/api-reference/models/object>
#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

fn models(
    gateway: &Gateway,
    snapshot: &Snapshot,
    caller: &Caller,
) -> Result<Response<Reply>, ApiError> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<ModelObject<'a>>,
    }
    let tenant = caller.tenant();
    tenant.map_or(Ok(()), |tenant| tenant.check_list())?;
    let usable =
        |listed: &&Listed| tenant.is_none_or(|tenant| tenant.may_use(&listed.id, &listed.id));
    let objects = snapshot.catalog.listed().iter().filter(usable).map(|listed| ModelObject {
        id: &listed.id,
        object: "model",
        created: gateway.started,
        owned_by: &listed.owned_by,
    });
    Ok(json_response(StatusCode::OK, &List { object: "list", data: objects.collect() }))
}

fn model(
    gateway: &Gateway,
    snapshot: &Snapshot,
    path: &Path,
    caller: &Caller,
) -> Result<Response<Reply>, ApiError> {
    let id = path.tail.strip_prefix("/models/").unwrap_or_default();
    let tenant = caller.tenant();
    tenant.map_or(Ok(()), |tenant| tenant.check_list())?;
    let usable = |found: &Resolved| tenant.is_none_or(|it| it.may_use(&found.route.name, id));
    // Whoever may not use a model does not learn whether it exists.
    let resolved = snapshot.catalog.resolve(id).filter(usable);
    let resolved = resolved.ok_or_else(|| ApiError::model_not_found(id))?;
    let owner = (0..resolved.route.deployments.len())
        .find(|index| !resolved.excluded.contains(index))
        .map(|index| resolved.route.deployments[index].provider.name.as_str());
    let owned_by = owner.unwrap_or_default();
    let object = ModelObject { id, object: "model", created: gateway.started, owned_by };
    Ok(json_response(StatusCode::OK, &object))
}
