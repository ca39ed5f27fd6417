//! The frame itself: health, documents, errors.

use serde_json::json;

use crate::harness::on_each_database;

#[test]
fn a_healthy_server_is_ready_and_describes_itself() {
    on_each_database(|server| {
        assert_eq!(server.get("/healthz", "").expect(200).text(), "ok\n");
        assert_eq!(server.get("/readyz", "").expect(200).json()["status"], "ready");
        let document = server.get("/api/openapi.json", "").expect(200).json();
        assert!(document["paths"]["/api/v1/audit"]["get"]["responses"]["200"].is_object());
    });
}

#[test]
fn every_error_is_a_problem_document() {
    on_each_database(|server| {
        let unknown = server.get("/no/such/page", "").expect(404);
        assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
        assert!(unknown.header("x-request-id").is_some());
        let wrong_method = server.post("/healthz", "", &json!({})).expect(405);
        assert_eq!(wrong_method.json()["code"], "method_not_allowed");
        let stranger = server.get("/api/v1/audit", "").expect(401);
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
        assert_eq!(stranger.json()["status"], 401);
    });
}
