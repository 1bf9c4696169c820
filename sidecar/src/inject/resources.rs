//! The sidecar's resources, and the store's capacity, which has to fit them.

use serde_json::{Map, Value, json};

use super::{CONFIG, annotations::Asked, quantity};

/// The least memory that a node and what it stores are worth running in.
const LEAST_MEMORY: f64 = 96.0 * 1024.0 * 1024.0;
/// The least that a store may hold.
const LEAST_CAPACITY: f64 = 1024.0 * 1024.0;

/// What the sidecar gets.
pub(super) struct Resources {
    /// The container's.
    pub(super) container: Value,
    /// The memory limit, in bytes.
    pub(super) memory: u64,
    /// The store's capacity, in bytes.
    pub(super) capacity: u64,
}

/// Decides.
///
/// # Errors
/// What is no quantity, or contradicts something else; the message names both.
pub(super) fn resources(asked: &Asked) -> Result<Resources, String> {
    let said = &asked.settings.resources;
    let (limit_text, limit, capacity) = memory(asked)?;
    if limit < LEAST_MEMORY {
        return Err(conflict(
            asked,
            "memory-limit",
            &limit_text,
            "at least 96Mi",
        ));
    }
    if capacity < LEAST_CAPACITY {
        let text = said.cache_size.as_deref().unwrap_or_default();
        return Err(conflict(asked, "cache-size", text, "at least 1Mi"));
    }
    let memory = request(asked, "memory-request", &said.memory_request, &limit_text)?;
    let mut limits = Map::new();
    let cpu = match &said.cpu_limit {
        None => said.cpu_request.clone(),
        Some(limit) => {
            limits.insert("cpu".into(), limit.as_str().into());
            request(asked, "cpu-request", &said.cpu_request, limit)?
        }
    };
    number("cpu_request", &cpu)?;
    limits.insert("memory".into(), limit_text.into());
    let mut requests = Map::new();
    requests.insert("cpu".into(), cpu.into());
    requests.insert("memory".into(), memory.into());
    storage(asked, &mut requests, &mut limits)?;
    Ok(Resources {
        container: json!({"requests": requests, "limits": limits}),
        memory: limit as u64,
        capacity: capacity as u64,
    })
}

/// What it may write on its host.
fn storage(
    asked: &Asked,
    requests: &mut Map<String, Value>,
    limits: &mut Map<String, Value>,
) -> Result<(), String> {
    const NAME: &str = "ephemeral-storage";
    let said = &asked.settings.resources;
    let (mut wanted, limit) = (said.storage_request.clone(), &said.storage_limit);
    if !limit.is_empty() {
        number("storage_limit", limit)?;
        limits.insert(NAME.into(), limit.as_str().into());
        if !wanted.is_empty() {
            wanted = request(asked, "storage-request", &wanted, limit)?;
        }
    }
    if !wanted.is_empty() {
        number("storage_request", &wanted)?;
        requests.insert(NAME.into(), wanted.into());
    }
    Ok(())
}

/// The memory limit, as text and in bytes, and the store's capacity: half of it, or what was asked for.
fn memory(asked: &Asked) -> Result<(String, f64, f64), String> {
    let said = &asked.settings.resources;
    let text = said.memory_limit.clone();
    let limit = number("memory_limit", &text)?;
    let half = limit / 2.0;
    let Some(size) = &said.cache_size else {
        return Ok((text, limit, half));
    };
    let wanted = number("cache_size", size)?;
    match (asked.says("cache-size"), asked.says("memory-limit")) {
        _ if wanted <= half => Ok((text, limit, wanted)),
        // The pod asks for a store, and gets the room for it.
        (true, false) => Ok((written(wanted * 2.0), wanted * 2.0, wanted)),
        // It asks for less room than stores have usually.
        (false, true) => Ok((text, limit, half)),
        _ => {
            let rule = format!("at most half of memory-limit, which is {text:?}");
            Err(conflict(asked, "cache-size", size, &rule))
        }
    }
}

/// Bytes as a quantity.
fn written(bytes: f64) -> String {
    let bytes = bytes as u64;
    if bytes.is_multiple_of(1 << 20) {
        format!("{}Mi", bytes >> 20)
    } else {
        bytes.to_string()
    }
}

/// A request: not above its limit. One that the pod does not name itself is lowered to it.
fn request(asked: &Asked, key: &str, request: &str, limit: &str) -> Result<String, String> {
    let name = key.replace('-', "_");
    if number(&name, request)? <= number("limit", limit)? {
        Ok(request.to_owned())
    } else if asked.says(key) {
        let rule = format!("at most the limit, which is {limit:?}");
        Err(conflict(asked, key, request, &rule))
    } else {
        Ok(limit.to_owned())
    }
}

fn number(key: &str, text: &str) -> Result<f64, String> {
    let wrong = || format!("resources.{key} = {text:?}: must be a quantity such as 256Mi or 500m");
    quantity::parse(text).ok_or_else(wrong)
}

/// A value that does not go with the others, under the name by which it was said.
fn conflict(asked: &Asked, key: &str, text: &str, rule: &str) -> String {
    if asked.says(key) {
        format!("annotation {CONFIG}{key} = {text:?}: must be {rule}")
    } else {
        format!(
            "resources.{} = {text:?}: must be {rule}",
            key.replace('-', "_")
        )
    }
}
