//! What stands before every answer when there is a web configuration, in the order of the exporter-toolkit: the
//! configuration itself, the limit of requests, headers, and who asks.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::web_config::{Guesser, LoginVerdict, Web};

/// Answers a request, or refuses it.
pub(crate) async fn guard(
    State(web): State<Arc<Web>>,
    // Every connection has one.
    Extension(guesser): Extension<Arc<Guesser>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(config) = web.now() else { return refuse(StatusCode::INTERNAL_SERVER_ERROR) };
    if !web.allows_one() {
        return refuse(StatusCode::TOO_MANY_REQUESTS);
    }
    let mut response = match web.judge(&config, request.headers().get(AUTHORIZATION), &guesser).await {
        LoginVerdict::Right => next.run(request).await,
        LoginVerdict::Wrong => {
            let mut refused = refuse(StatusCode::UNAUTHORIZED);
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            refused
        }
        LoginVerdict::Busy => refuse(StatusCode::SERVICE_UNAVAILABLE),
    };
    for (name, value) in &config.headers {
        // What an answer sets itself is stricter: the page's policy allows its own script alone.
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    response
}

fn refuse(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(CONTENT_TYPE, text)], format!("{reason}\n")).into_response()
}
