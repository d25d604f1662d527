//! The simulation over real sockets, asked by a client that knows nothing of it.

use std::{sync::LazyLock, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Client, Response, redirect};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::*;

/// One client for all tests, since making one takes long. It shows compression and redirects as they
/// are, and keeps no connection, which would belong to the runtime of one test.
fn client() -> &'static Client {
    static CLIENT: LazyLock<Client> = LazyLock::new(|| {
        Client::builder()
            .no_proxy()
            .gzip(false)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap()
    });
    &CLIENT
}

pub(super) struct Asked {
    pub(super) status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Asked {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let json = self.json();
        json["result"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read(response: Response) -> reqwest::Result<Asked> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Asked { status, headers, text: response.text().await? })
}

/// Asks with the token for a path below the base URL.
async fn try_ask(api: &SimulatedApi, path: &str) -> reqwest::Result<Asked> {
    let token = api.change(|world| world.token().to_owned());
    read(client().get(api.base_url() + path).bearer_auth(token).send().await?).await
}

pub(super) async fn ask(api: &SimulatedApi, path: &str) -> Asked {
    try_ask(api, path).await.unwrap()
}

/// A running world of one zone, and the path of its listing.
async fn one_zone(zone: SimulatedZone) -> (SimulatedApi, String) {
    let path = format!("/zones/{}/client_certificates?status=all&per_page=5", zone.id);
    (SimulatedApi::start(World::of([zone])).await.unwrap(), path)
}

/// The first page of a zone of seven under a fault.
async fn first_page(fault: Fault) -> reqwest::Result<Asked> {
    let (api, path) = one_zone(SimulatedZone::of_size("a.example", 7).with_fault(fault)).await;
    try_ask(&api, &path).await
}

#[tokio::test]
async fn a_listing_has_the_real_envelope_and_headers() {
    let (api, path) = one_zone(SimulatedZone::of_size("a.example", 7)).await;
    let answer = ask(&api, &path).await;
    let json = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!((&json["success"], &json["errors"], &json["messages"]), (&json!(true), &json!([]), &json!([])));
    assert_eq!(
        json["result_info"],
        json!({ "count": 5, "page": 1, "per_page": 5, "total_count": 7, "total_pages": 2 })
    );
    let item = &json["result"][0];
    assert_eq!(item["id"].as_str().unwrap().len(), 36);
    assert_eq!(item["common_name"], "device-00001");
    assert_eq!(item["validity_days"], 3652);
    assert!(item["csr"].as_str().unwrap().contains("\r\n"));
    assert!((3000..4500).contains(&item.to_string().len()), "{}", item.to_string().len());
    for (name, value) in [
        ("content-type", "application/json"),
        ("ratelimit", r#""default";r=1199;t=1"#),
        ("ratelimit-policy", r#""default";q=1200;w=300"#),
        ("content-encoding", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(answer.header("cf-ray").len(), 20);

    let request = &api.requests()[0];
    assert_eq!((request.method.as_str(), request.parameter("status")), ("GET", Some("all")));
    assert_eq!(format!("/client/v4{path}"), format!("{}?{}", request.path, request.query));
    assert!(request.header("authorization").unwrap().starts_with("Bearer simulated-"));
    assert!(request.at <= Instant::now());
}

#[tokio::test]
async fn pages_are_cut_as_the_real_api_cuts_them() {
    let sizes = [0, 50, 237];
    let zones = sizes.map(|size| SimulatedZone::of_size(&format!("zone-{size}.example"), size));
    let ids = zones.each_ref().map(|zone| zone.id.clone());
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    for (zone, query, count, per_page, pages) in [
        (0, "per_page=50", 0, 50, None),
        (1, "per_page=50", 50, 50, Some(1)),
        (1, "per_page=50&page=2", 0, 50, Some(1)),
        (2, "per_page=50&page=1", 50, 50, Some(5)),
        (2, "per_page=50&page=5", 37, 50, Some(5)),
        (2, "per_page=50&page=6", 0, 50, Some(5)),
        (2, "per_page=50&page=18446744073709551615", 0, 50, Some(5)),
        (2, "", 20, 20, Some(12)),
        (2, "per_page=1", 5, 5, Some(48)),
        (2, "per_page=1000&page=0", 50, 50, Some(5)),
        (2, "per_page=many", 20, 20, Some(12)),
    ] {
        let answer = ask(&api, &format!("/zones/{}/client_certificates?status=all&{query}", ids[zone])).await;
        let info = &answer.json()["result_info"];
        assert_eq!(answer.ids().len(), count, "{query}");
        assert_eq!(info["count"], count, "{query}");
        assert_eq!(info["per_page"], per_page, "{query}");
        assert_eq!(info["total_count"], sizes[zone], "{query}");
        assert_eq!(info.get("total_pages"), pages.map(|pages| json!(pages)).as_ref(), "{query}");
    }
}

#[tokio::test]
async fn without_a_status_only_active_certificates_are_listed() {
    let mut zone = SimulatedZone::of_size("a.example", 6);
    zone.certificates[0].set("status", "revoked");
    zone.certificates[1].set("status", "suspended");
    zone.certificates[2].remove("status");
    zone.certificates[3].set("status", Value::Null);
    let path = format!("/zones/{}/client_certificates", zone.id);
    let api = SimulatedApi::start(World::of([zone])).await.unwrap();
    for (query, listed) in [("", 2), ("?status=active", 2), ("?status=revoked", 1), ("?status=all", 6)] {
        let answer = ask(&api, &format!("{path}{query}")).await;
        assert_eq!(answer.ids().len(), listed, "{query}");
        assert_eq!(answer.json()["result_info"]["total_count"], 6, "{query}: the total ignores filters");
    }
}

#[tokio::test]
async fn a_field_can_be_anything_or_absent() {
    let certificate = SimulatedCertificate::new("an-id", "CN", "active", "", "")
        .with("expires_on", "2020-12-25 06:27:00 +0000 UTC")
        .with("common_name", 7)
        .with("serial_number", Value::Null)
        .with("id", "first")
        .with("id", "second")
        .without("ski");
    let zone = SimulatedZone { certificates: vec![certificate], ..SimulatedZone::new("a.example") };
    let (api, path) = one_zone(zone).await;
    let item = ask(&api, &path).await.json()["result"][0].clone();
    assert_eq!(item["expires_on"], "2020-12-25 06:27:00 +0000 UTC");
    assert_eq!(
        (&item["common_name"], &item["serial_number"], &item["id"]),
        (&json!(7), &Value::Null, &json!("second"))
    );
    assert_eq!((item.get("ski"), &item["validity_days"]), (None, &Value::Null));
}

#[tokio::test]
async fn a_zone_tells_its_name_and_an_unknown_one_is_not_found() {
    let mut denied = SimulatedZone::new("denied.example");
    denied.denied = true;
    let denied_id = denied.id.clone();
    let zone = SimulatedZone::new("a.example");
    let id = zone.id.clone();
    let api = SimulatedApi::start(World::of([zone, denied])).await.unwrap();
    let json = ask(&api, &format!("/zones/{id}")).await.json();
    assert_eq!((&json["result"]["name"], &json["result"]["id"]), (&json!("a.example"), &json!(id)));
    assert_eq!(json["result"]["account"]["id"].as_str().unwrap().len(), 32);
    for (path, status, code) in [
        (format!("/zones/{denied_id}"), 403, 10000),
        (format!("/zones/{denied_id}/client_certificates"), 403, 10000),
        ("/zones/0123456789abcdef0123456789abcdef/client_certificates".to_owned(), 404, 7003),
        ("/zones//client_certificates".to_owned(), 404, 7003),
        ("/nothing".to_owned(), 404, 7003),
    ] {
        let answer = ask(&api, &path).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["errors"][0]["code"]), (status, &json!(code)), "{path}");
        assert_eq!((&json["success"], &json["result"]), (&json!(false), &Value::Null), "{path}");
        if status == 404 {
            assert_eq!(json["errors"][1]["code"], 7000, "{path}");
        }
    }
}

#[tokio::test]
async fn a_refused_credential_gets_the_reason() {
    let mut world = World::of([SimulatedZone::new("a.example")]);
    world.credentials.push(AcceptedCredential::Key { email: "me@a.example".into(), key: "0123abc".into() });
    let (token, id) = (world.token().to_owned(), world.zones[0].id.clone());
    let good = format!("Bearer {token}");
    let api = SimulatedApi::start(world).await.unwrap();
    for (headers, status, code, reason) in [
        (vec![("authorization", good.as_str())], 200, None, None),
        (vec![("x-auth-email", "me@a.example"), ("x-auth-key", "0123abc")], 200, None, None),
        (vec![], 400, Some(9106), None),
        (vec![("x-auth-key", "0123abc")], 400, Some(9106), None),
        (vec![("authorization", token.as_str())], 400, Some(9106), None),
        (vec![("authorization", "Bearer wrong")], 401, Some(1000), None),
        (vec![("x-auth-email", "me@a.example"), ("x-auth-key", "wrong")], 403, Some(9103), None),
    ] {
        let mut request = client().get(format!("{}/zones/{id}", api.base_url()));
        for &(name, value) in &headers {
            request = request.header(name, value);
        }
        let answer = read(request.send().await.unwrap()).await.unwrap();
        let error = &answer.json()["errors"][0];
        let given = (answer.status, error["code"].as_i64(), error["error_chain"][0]["code"].as_i64());
        assert_eq!(given, (status, code, reason), "{headers:?}");
        assert!(!answer.header("ratelimit").is_empty(), "{headers:?}");
    }
}

#[tokio::test]
async fn beyond_the_quota_a_user_is_blocked_and_others_are_not() {
    let mut world = World::of([SimulatedZone::new("a.example")]);
    world.quota = Quota { requests: 5, spent_elsewhere: 2, ..Quota::default() };
    world.credentials.push(AcceptedCredential::Token("another".into()));
    let path = format!("/zones/{}", world.zones[0].id);
    let api = SimulatedApi::start(world).await.unwrap();
    for (status, left) in [(200, "r=2;t=1"), (200, "r=1;t=1"), (200, "r=0;t="), (429, "r=0;t="), (429, "r=0;t=")] {
        let answer = ask(&api, &path).await;
        assert_eq!(answer.status, status, "{left}");
        assert!(answer.header("ratelimit").starts_with(&format!(r#""default";{left}"#)), "{left}");
        assert_eq!(answer.header("ratelimit-policy"), r#""default";q=5;w=300"#);
        if status == 429 {
            assert!((290..=300).contains(&answer.header("retry-after").parse().unwrap()), "{left}");
            assert_eq!(answer.json()["errors"][0]["code"], 971);
        }
    }
    let other = client().get(api.base_url() + &path).bearer_auth("another").send().await.unwrap();
    assert_eq!(other.status(), 200);
}

#[test]
fn the_default_quota_blocks_for_five_minutes() {
    let mut state = RouterState::new(World::of([SimulatedZone::new("a.example")]));
    let token = state.world.token().to_owned();
    let path = format!("/client/v4/zones/{}", state.world.zones[0].id);
    let start = Instant::now();
    let mut ask = |seconds| {
        let answer = state.answer(RecordedRequest {
            method: "GET".into(),
            path: path.clone(),
            query: String::new(),
            headers: vec![("authorization".into(), format!("Bearer {token}"))],
            at: start + Duration::from_secs(seconds),
        });
        let header = |name| answer.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        (answer.status, header("ratelimit").unwrap(), header("retry-after"))
    };
    for n in 0..1200 {
        assert_eq!(ask(n / 10).0, 200);
    }
    let blocked = |seconds: u64| (429, format!(r#""default";r=0;t={seconds}"#), Some(seconds.to_string()));
    assert_eq!(ask(250), blocked(300));
    assert_eq!(ask(301), blocked(249));
    assert_eq!(ask(549), blocked(1));
    assert_eq!(ask(550), (200, r#""default";r=1199;t=1"#.into(), None));
}

#[tokio::test]
async fn bodies_are_compressed_for_those_who_ask() {
    let (api, path) = one_zone(SimulatedZone::of_size("a.example", 7)).await;
    let token = api.change(|world| world.token().to_owned());
    let get = |client: &Client| client.get(api.base_url() + &path).bearer_auth(&token);
    let raw = get(client()).header("accept-encoding", "br, gzip;q=0.5").send().await.unwrap();
    assert_eq!(raw.headers()["content-encoding"], "gzip");
    let raw = raw.bytes().await.unwrap();
    assert!(raw.starts_with(&[0x1f, 0x8b]));
    let decoded = read(get(&Client::builder().no_proxy().build().unwrap()).send().await.unwrap()).await.unwrap();
    assert_eq!(decoded.ids().len(), 5);
    assert!(raw.len() < decoded.text.len() / 2);
}

#[tokio::test]
async fn connections_are_kept_and_requests_on_them_may_be_pipelined() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (api, path) = one_zone(SimulatedZone::new("a.example")).await;
    let token = api.change(|world| world.token().to_owned());
    let request = format!("GET /client/v4{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let requests = format!("{request}\r\n{request}\r\n{request}Connection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    timeout(Duration::from_secs(5), stream.read_to_string(&mut answers)).await.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3);
    assert_eq!((api.requests().len(), api.connections()), (3, 1));
}

#[tokio::test]
async fn answers_come_after_the_latency_and_side_by_side() {
    let (api, path) = one_zone(SimulatedZone::new("a.example")).await;
    api.change(|world| world.latency = Duration::from_millis(500));
    let start = Instant::now();
    tokio::join!(ask(&api, &path), ask(&api, &path), ask(&api, &path));
    assert!((500..1500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_dropped_api_ends_its_connections_and_gives_up_its_port() {
    let (api, path) =
        one_zone(SimulatedZone::new("a.example").with_fault(Delivery::Unanswered(Ending::Hang).into())).await;
    let url = api.base_url() + &path;
    let token = api.change(|world| world.token().to_owned());
    let waiting = tokio::spawn(client().get(&url).bearer_auth(&token).send());
    while api.requests().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    drop(api);
    assert!(timeout(Duration::from_secs(2), waiting).await.unwrap().unwrap().is_err());
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn only_so_many_requests_are_remembered() {
    let (api, path) = one_zone(SimulatedZone::new("a.example")).await;
    api.change(|world| world.remembered_requests = 2);
    for page in 1..=3 {
        ask(&api, &format!("{path}&page={page}")).await;
    }
    let pages: Vec<_> = api.requests().iter().map(|request| request.parameter("page").unwrap().to_owned()).collect();
    assert_eq!(pages, ["2", "3"]);
}

#[tokio::test]
async fn faults_that_give_another_answer_give_that_answer() {
    let date = "Tue, 24 Nov 2026 12:00:00 GMT";
    let chained = ApiError::new(400, 6003, "Invalid request headers").because(6111, "Invalid format");
    let no_code = ApiError { status: 403, errors: json!([{ "message": "no code" }]) };
    let envelope = r#"{"result":null,"success":false,"errors":["#;
    let two = r#""default";r=50;t=30, "burst";r=1;t=2"#;
    for (fault, status, header, body) in [
        (Fault::error(403, 10001, "internal error"), 403, ("content-type", "application/json"), envelope),
        (chained.into(), 400, ("retry-after", ""), envelope),
        (no_code.into(), 403, ("location", ""), envelope),
        (Fault::throttled_with_200(), 200, ("retry-after", ""), envelope),
        (Fault::rate_limited("300"), 429, ("retry-after", "300"), envelope),
        (Fault::rate_limited(date), 429, ("retry-after", date), envelope),
        (Fault::rate_limited_with_null(), 429, ("retry-after", ""), "null"),
        (Fault::edge_rate_limited(), 429, ("content-type", "text/plain"), "error code: 1015"),
        (Fault::html(200), 200, ("content-type", "text/html; charset=UTF-8"), "<!DOCTYPE html>"),
        (Fault::html(502), 502, ("ratelimit", ""), "<!DOCTYPE html>"),
        (Fault::origin_timed_out(), 522, ("retry-after", "120"), "<!DOCTYPE html>"),
        (Fault::redirect("https://other.example/"), 302, ("location", "https://other.example/"), ""),
        (Fault::brackets(), 200, ("content-type", "application/json"), "[[[["),
        (Fault::Header("ratelimit", two.into()), 200, ("ratelimit", two), r#"{"result":[{"#),
    ] {
        let name = format!("{fault:.60?}");
        let answer = first_page(fault).await.unwrap();
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.header(header.0), header.1, "{name}");
        assert!(answer.text.starts_with(body), "{name}: {}", answer.text);
        assert!(!answer.header("cf-ray").is_empty(), "{name}");
    }
    assert_eq!(first_page(Fault::brackets()).await.unwrap().text.len(), 200_000);
    assert_eq!(first_page(Fault::origin_timed_out()).await.unwrap().text.len(), 7318);
}

/// Pages one to four under a fault: the numbers of the devices on them, and `result_info`.
async fn four_pages(fault: Fault) -> (Vec<Vec<String>>, Vec<Value>) {
    let (api, path) = one_zone(SimulatedZone::of_size("a.example", 12).with_fault(fault)).await;
    let (mut names, mut infos) = (Vec::new(), Vec::new());
    for page in 1..=4 {
        let json = ask(&api, &format!("{path}&page={page}")).await.json();
        let items = json["result"].as_array().unwrap();
        names.push(
            items
                .iter()
                .map(|item| item["common_name"].as_str().unwrap().trim_start_matches("device-000").to_owned())
                .collect(),
        );
        infos.push(json["result_info"].clone());
    }
    (names, infos)
}

#[tokio::test]
async fn faults_of_a_listing_alter_its_pages() {
    for (fault, pages) in [
        (Fault::All(vec![]), ["01 02 03 04 05", "06 07 08 09 10", "11 12", ""]),
        (Fault::PageIgnored { admitted: true }, ["01 02 03 04 05"; 4]),
        (Fault::PageIgnored { admitted: false }, ["01 02 03 04 05"; 4]),
        (Fault::EmptyFrom(2), ["01 02 03 04 05", "", "", ""]),
        (Fault::PageSize(3), ["01 02 03", "04 05 06", "07 08 09", "10 11 12"]),
        (Fault::Overlap, ["01 02 03 04 05", "05 06 07 08 09 10", "10 11 12", ""]),
        (Fault::Change(Change::Shrinks), ["02 03 04 05 06", "08 09 10 11 12", "", ""]),
        (Fault::Change(Change::Shrinks).times(1).on_page(2), ["01 02 03 04 05", "07 08 09 10 11", "12", ""]),
        (Fault::Change(Change::Reorders), ["12 11 10 09 08", "06 07 08 09 10", "02 01", ""]),
        (Fault::Change(Change::Rotates(7)), ["08 09 10 11 12", "08 09 10 11 12", "08 09", ""]),
        (Fault::Change(Change::Grows), ["issued-while-read-12 01 02 03 04", "04 05 06 07 08", "08 09 10 11 12", "12"]),
        (Fault::Change(Change::Grows).times(1).on_page(2), ["01 02 03 04 05", "05 06 07 08 09", "10 11 12", ""]),
    ] {
        let name = format!("{fault:.60?}");
        let (names, infos) = four_pages(fault).await;
        assert_eq!(names.iter().map(|page| page.join(" ")).collect::<Vec<_>>(), pages, "{name}");
        if !name.contains("Overlap") {
            assert!(names.iter().zip(&infos).all(|(page, info)| info["count"] == page.len()), "{name}: {infos:?}");
        }
    }
}

#[tokio::test]
async fn faults_of_the_totals_alter_result_info() {
    let pages = |infos: &[Value]| infos.iter().map(|info| info["page"].clone()).collect::<Vec<_>>();
    let (_, infos) = four_pages(Fault::PageIgnored { admitted: true }).await;
    assert_eq!(pages(&infos), [1, 1, 1, 1]);
    let (_, infos) = four_pages(Fault::PageIgnored { admitted: false }).await;
    assert_eq!(pages(&infos), [1, 2, 3, 4]);
    for (fault, info) in [
        (Fault::PageSize(3), json!({ "count": 3, "page": 1, "per_page": 3, "total_count": 12, "total_pages": 4 })),
        (
            Fault::Info("total_count", Some(2000.into())),
            json!({ "count": 5, "page": 1, "per_page": 5, "total_count": 2000, "total_pages": 3 }),
        ),
        (Fault::Info("total_pages", None), json!({ "count": 5, "page": 1, "per_page": 5, "total_count": 12 })),
        (Fault::NoInfo, Value::Null),
    ] {
        let name = format!("{fault:?}");
        assert_eq!(four_pages(fault).await.1[0], info, "{name}");
    }
    let (_, infos) = four_pages(Fault::Change(Change::Grows)).await;
    assert_eq!(infos.iter().map(|info| info["total_count"].clone()).collect::<Vec<_>>(), [13, 14, 15, 16]);
}

#[tokio::test]
async fn a_result_can_be_null_or_no_list_and_an_error_page_stays_as_it_is() {
    for (result, total) in [(Value::Null, 7), (json!({ "a": 1 }), 7), (json!([null, 5]), 7)] {
        let json = first_page(Fault::Result(result.clone())).await.unwrap().json();
        assert_eq!((&json["result"], &json["success"]), (&result, &json!(true)));
        assert_eq!(json["result_info"]["total_count"], total);
    }
    let both = Fault::All(vec![Fault::rate_limited_with_null(), Fault::Result(json!([])), Fault::NoInfo]);
    assert_eq!(first_page(both).await.unwrap().text, "null");
}

#[tokio::test]
async fn a_fault_can_pass_and_hold_on_one_page_only() {
    let broken = Fault::error(403, 10000, "Authentication error");
    for (fault, statuses) in [
        (broken.clone(), [403, 403, 403, 403]),
        (broken.clone().times(1), [403, 200, 200, 200]),
        (broken.clone().on_page(2), [200, 403, 200, 403]),
        (broken.clone().times(1).on_page(2), [200, 403, 200, 200]),
        (broken.clone().on_page(2).times(1), [200, 403, 200, 200]),
    ] {
        let name = format!("{fault:.60?}");
        let (api, path) = one_zone(SimulatedZone::of_size("a.example", 7).with_fault(fault)).await;
        let mut given = Vec::new();
        for page in [1, 2, 1, 2] {
            given.push(ask(&api, &format!("{path}&page={page}")).await.status);
        }
        assert_eq!(given, statuses, "{name}");
    }
}

#[tokio::test]
async fn a_zones_faults_leave_its_name_and_other_zones_alone_and_the_worlds_do_not() {
    let broken = Fault::html(502);
    let zones = [SimulatedZone::new("a.example").with_fault(broken.clone()), SimulatedZone::new("b.example")];
    let [a, b] = zones.each_ref().map(|zone| format!("/zones/{}", zone.id));
    let paths = [format!("{a}/client_certificates"), a, format!("{b}/client_certificates"), b];
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    for expected in [[502, 200, 200, 200], [200, 502, 200, 200], [502; 4]] {
        for (path, status) in paths.iter().zip(expected) {
            assert_eq!(ask(&api, path).await.status, status, "{path} {expected:?}");
        }
        api.change(|world| {
            let named = world.zones[0].name_fault.take();
            world.fault = named.clone();
            world.zones[0].name_fault = world.zones[0].fault.take().or(named);
        });
    }
}

#[tokio::test]
async fn faults_of_delivery_break_connections_as_they_say() {
    for (delivery, hangs) in [
        (Delivery::Unanswered(Ending::Hang), true),
        (Delivery::Unanswered(Ending::Close), false),
        (Delivery::Unanswered(Ending::Reset), false),
        (Delivery::Half(Ending::Hang), true),
        (Delivery::Half(Ending::Close), false),
        (Delivery::Half(Ending::Reset), false),
        (Delivery::ByteByByte(Duration::from_secs(1)), true),
    ] {
        match timeout(Duration::from_millis(300), first_page(delivery.into())).await {
            Err(_) => assert!(hangs, "{delivery:?}"),
            Ok(answer) => {
                let error = format!("{:?}", answer.err().unwrap());
                assert!(!hangs, "{delivery:?}");
                let resets = matches!(delivery, Delivery::Unanswered(Ending::Reset) | Delivery::Half(Ending::Reset));
                assert_eq!(error.contains("ConnectionReset"), resets, "{delivery:?}: {error}");
            }
        }
    }
    let understated = first_page(Delivery::Understated.into()).await.unwrap();
    assert!(serde_json::from_str::<Value>(&understated.text).unwrap_err().is_eof());
    let slow = first_page(Delivery::ByteByByte(Duration::ZERO).into()).await.unwrap();
    assert_eq!(slow.ids().len(), 5);
    let start = Instant::now();
    assert_eq!(first_page(Fault::Delay(Duration::from_millis(100))).await.unwrap().ids().len(), 5);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn endless_bodies_go_on_for_as_long_as_they_are_read() {
    for (delivery, begins) in [(Delivery::Endless, r#"{"success":true"#), (Delivery::GzipBomb(300 << 20), "          ")]
    {
        let (api, path) = one_zone(SimulatedZone::of_size("a.example", 7).with_fault(delivery.into())).await;
        let token = api.change(|world| world.token().to_owned());
        let decoding = Client::builder().no_proxy().build().unwrap();
        let mut response = decoding.get(api.base_url() + &path).bearer_auth(token).send().await.unwrap();
        let mut read = 0;
        while read < 2 << 20 {
            let chunk = response.chunk().await.unwrap().unwrap();
            assert!(read > 0 || chunk.starts_with(begins.as_bytes()), "{delivery:?}");
            read += chunk.len();
        }
    }
    let small = Fault::from(Delivery::GzipBomb(100_000));
    let (api, path) = one_zone(SimulatedZone::new("a.example").with_fault(small)).await;
    let token = api.change(|world| world.token().to_owned());
    let whole = Client::builder().no_proxy().build().unwrap().get(api.base_url() + &path).bearer_auth(token);
    assert_eq!(whole.send().await.unwrap().text().await.unwrap().len(), 100_000);
}

const NOW: &str = "2026-11-24T12:00:00Z";

/// Days to the expiry and the fields of everything in the demo's world, zone by zone.
fn demo(zones: usize, certificates: usize) -> Vec<Vec<(Option<i64>, Value)>> {
    let now: DateTime<Utc> = NOW.parse().unwrap();
    let days = |fields: &Value| {
        let expires_on: DateTime<Utc> = fields["expires_on"].as_str()?.parse().unwrap();
        Some((expires_on - now).num_seconds().div_euclid(86_400))
    };
    let world = World::demo(now, zones, certificates);
    let fields = SimulatedCertificate::fields;
    world
        .zones
        .iter()
        .map(|zone| zone.certificates.iter().map(fields).map(|fields| (days(&fields), fields)).collect())
        .collect()
}

#[test]
fn the_demos_world_has_everything_in_it_and_is_always_the_same() {
    let zones = demo(5, 60);
    assert_eq!(zones, demo(5, 60));
    assert_eq!(zones.iter().map(Vec::len).collect::<Vec<_>>(), [60, 60, 60, 60, 0]);

    type Matches = fn(Option<i64>, &Value) -> bool;
    let all: Vec<_> = zones.iter().flatten().collect();
    let promised: [(&str, usize, Matches); 14] = [
        ("active", 100, |_, fields| fields["status"] == "active"),
        ("revoked", 5, |_, fields| fields["status"] == "revoked"),
        ("pending_revocation", 1, |_, fields| fields["status"] == "pending_revocation"),
        ("pending_reactivation", 1, |_, fields| fields["status"] == "pending_reactivation"),
        ("an unknown status", 1, |_, fields| fields["status"] == "pending_deployment"),
        ("named Cloudflare", 3, |_, fields| fields["common_name"] == "Cloudflare"),
        ("without a date", 1, |days, fields| days.is_none() && fields["status"] == "active"),
        ("expired yesterday", 1, |days, fields| days == Some(-1) && fields["status"] == "active"),
        ("expired 40 days ago", 1, |days, _| days == Some(-40)),
        ("expired long ago", 1, |days, fields| days < Some(-90) && days.is_some() && fields["status"] == "active"),
        ("this week", 2, |days, _| (Some(0)..Some(7)).contains(&days)),
        ("this month", 2, |days, _| (Some(7)..Some(30)).contains(&days)),
        ("within 90 days", 2, |days, _| (Some(30)..Some(90)).contains(&days)),
        ("years later", 10, |days, _| days > Some(1000)),
    ];
    for (what, least, matches) in promised {
        let found = all.iter().filter(|(days, fields)| matches(*days, fields)).count();
        assert!(found >= least, "{what}: {found}");
    }
    let renewal: Vec<_> = all.iter().filter(|(_, fields)| fields["common_name"] == "billing-service").collect();
    assert_eq!(renewal.iter().map(|(days, _)| days.unwrap()).collect::<Vec<_>>(), [5, 363]);
    let mut ids: Vec<_> = all.iter().map(|(_, fields)| fields["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 240, "no id twice");
    for (_, fields) in &all {
        assert!(fields["issued_on"].as_str().unwrap() < NOW, "{fields}");
    }
}

#[test]
fn the_demos_world_has_the_size_that_was_asked_for() {
    for (zones, certificates) in [(0, 5), (1, 1), (1, 150), (2, 3), (7, 0), (1000, 100)] {
        let world = World::demo(NOW.parse().unwrap(), zones, certificates);
        assert_eq!(world.zones.len(), zones);
        let inhabited = if zones > 1 { zones - 1 } else { zones };
        let right = |n: usize| if n < inhabited { certificates } else { 0 };
        assert!(world.zones.iter().enumerate().all(|(n, zone)| zone.certificates.len() == right(n)));
        let mut ids: Vec<_> = world.zones.iter().map(|zone| &zone.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), zones);
    }
}
