//! The status of every listing as an HTTP response, for `check` and other programs.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};

use super::{Served, current_exposition::Unrendered};
use crate::exposition::json::StatusParts;

/// Answers with the status at this second.
pub(super) async fn answer(served: &Served) -> Result<Response, Unrendered> {
    let exposition = served.exposition.now().await?;
    let status = Arc::new(StatusParts::new(exposition, served.exposition.second()));
    let mut response = Response::new(Body::new(served.responses.status(status)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names in it come from strangers, and no browser shall take them for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
