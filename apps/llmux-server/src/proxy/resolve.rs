//! Which deployments a model's name stands for.

use llmux_providers::Endpoint;
use llmux_router::FallbackKind;

use super::Way;
use crate::attempt::Resolved;
use crate::catalog::Deployment;
use crate::error::ApiError;
use crate::gateway::Snapshot;

/// Finds the deployments of `model` that may answer.
pub(crate) fn resolve(
    snapshot: &Snapshot,
    endpoint: Endpoint,
    model: &str,
) -> Result<Resolved, ApiError> {
    let found = snapshot.catalog.resolve(model);
    let mut resolved = found.ok_or_else(|| ApiError::model_not_found(model))?;
    let deployments = &resolved.route.deployments;
    let unable =
        |deployment: &Deployment| Way::to(deployment.provider.vendor.dialect, endpoint).is_none();
    let cannot: Vec<_> =
        (0..deployments.len()).filter(|&index| unable(&deployments[index])).collect();
    resolved.unable.extend(cannot);
    let (excluded, unable) = (&resolved.excluded, &resolved.unable);
    if (0..deployments.len()).all(|index| excluded.contains(&index) || unable.contains(&index)) {
        return Err(ApiError::unsupported_endpoint());
    }
    Ok(resolved)
}

/// Finds the model that follows after `visited`, the model asked for first, and has deployments for the endpoint.
pub(crate) fn next_model(
    snapshot: &Snapshot,
    endpoint: Endpoint,
    kind: FallbackKind,
    visited: &[String],
) -> Option<Resolved> {
    let routing = &snapshot.settings.routing;
    if !routing.retry.fallback {
        return None;
    }
    let mut visited: Vec<&str> = visited.iter().map(String::as_str).collect();
    loop {
        let name = routing.fallbacks.next(kind, &visited)?;
        visited.push(name);
        if let Ok(resolved) = resolve(snapshot, endpoint, name) {
            return Some(resolved);
        }
    }
}
