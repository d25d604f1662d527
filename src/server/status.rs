//! The status of every listing as an HTTP response, for `check` and other programs.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};

use super::{Served, current_exposition::RenderError, response::Content};
use crate::exposition::json::StatusParts;

/// Answers with the status at this second.
pub(super) async fn answer(served: &Served) -> Result<Response, RenderError> {
    let exposition = served.exposition.up_to_date().await?;
    let status = Arc::new(StatusParts::new(exposition, (served.now)().timestamp()));
    let mut response = served.responses.response(Content::Status(status), Bytes::new());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names in it come from strangers, and no browser shall take them for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
