//! The OpenAPI document, made from the endpoint table.

use actix_web::http::Method;
use actix_web::{HttpResponse, Responder};
use utoipa::openapi::path::{HttpMethod, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::endpoints::{Access, Endpoint, table};
use super::problem::Problem;
use crate::failures::feed;

/// Serves the document.
pub(super) async fn document() -> impl Responder {
    HttpResponse::Ok().json(build(&table()))
}

/// The document for these endpoints: everything for programs. Pages and what belongs to them have no summary and are not
/// in it.
pub fn build(endpoints: &[Endpoint]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .security_scheme("operator", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()))
        .security_scheme("terminal", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()))
        .security_scheme("channel", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(feed::SIGNATURE_HEADER))));
    for endpoint in endpoints.iter().filter(|endpoint| is_for_programs(endpoint)) {
        let Some(method) = method(&endpoint.method) else { continue };
        let mut operation = endpoint.operation.clone();
        operation.tags = Some(vec![tag(endpoint.path)]);
        for name in parameters(endpoint.path) {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build();
            operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
        }
        operation.security = match endpoint.access {
            Access::Public | Access::Page(_) => None,
            Access::Terminal => Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("terminal", [])]),
            Access::Channel => Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("channel", [])]),
            Access::Operator(_) => Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("operator", [])]),
        };
        let problem = ContentBuilder::new()
            .schema(Some(RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name(Problem::name()))))
            .build();
        let response = ResponseBuilder::new().description("A problem").content("application/problem+json", problem);
        operation.responses.responses.insert("4XX".to_owned(), RefOr::T(response.build()));
        paths = paths.path(endpoint.path, PathItem::new(method, operation));
        for (name, schema) in &endpoint.schemas {
            components = components.schema(name.clone(), schema.clone());
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Tillward")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Fleet management and over-the-air updates for payment terminals."))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

fn is_for_programs(endpoint: &Endpoint) -> bool {
    !matches!(endpoint.access, Access::Page(_)) && !endpoint.summary.is_empty()
}

fn method(method: &Method) -> Option<HttpMethod> {
    match *method {
        Method::GET => Some(HttpMethod::Get),
        Method::POST => Some(HttpMethod::Post),
        Method::PUT => Some(HttpMethod::Put),
        Method::PATCH => Some(HttpMethod::Patch),
        Method::DELETE => Some(HttpMethod::Delete),
        _ => None,
    }
}

/// The first part of the path after the root: `/api/v1/terminals/{id}` is tagged `terminals`.
fn tag(path: &str) -> String {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match parts.next() {
        Some("api") => parts.nth(1).unwrap_or("api").to_owned(),
        Some(root) => root.to_owned(),
        None => "console".to_owned(),
    }
}

fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split(['}', ':']).next())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    match inner {
                        Value::String(to) if name == "$ref" => found.push(to.clone()),
                        _ => references(inner, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_no_two_schemas_share_a_name() {
        let document = serde_json::to_value(build(&table())).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "only {}", found.len());
        let leads = |to: &String| document.pointer(to.strip_prefix('#').unwrap()).is_some();
        let dangling: Vec<&String> = found.iter().filter(|to| !leads(to)).collect();
        assert!(dangling.is_empty(), "these lead nowhere: {dangling:?}");
        let mut by_name: BTreeMap<String, Value> = BTreeMap::new();
        let mut ambiguous = Vec::new();
        for endpoint in table().iter().filter(|endpoint| is_for_programs(endpoint)) {
            for (name, schema) in &endpoint.schemas {
                let schema = serde_json::to_value(schema).unwrap();
                if *by_name.entry(name.clone()).or_insert_with(|| schema.clone()) != schema {
                    ambiguous.push(format!("{name} at {} {}", endpoint.method, endpoint.path));
                }
            }
        }
        assert!(ambiguous.is_empty(), "names of two things: {ambiguous:?}");
    }

    #[test]
    fn every_endpoint_of_the_device_that_takes_a_body_says_which_and_what_it_answers() {
        let document = serde_json::to_value(build(&table())).unwrap();
        let json = |path: &str, of: &str| {
            let post = &document["paths"][path]["post"];
            let body = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let answer = &post["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(body, &format!("#/components/schemas/{of}"), "{path}");
            assert!(answer.as_str().is_some_and(|answer| answer.ends_with("Answer")), "{path}");
        };
        json("/device/v1/check-in", "CheckIn");
        json("/device/v1/enrol", "EnrolRequest");
        json("/device/v1/challenge", "ChallengeRequest");
        json("/device/v1/session", "SessionRequest");
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["DeviceCondition"]["properties"]["rtt_ms"]["type"][0], "integer");
        assert_eq!(schemas["CheckIn"]["additionalProperties"], false, "unknown fields are refused");
        let upload = &document["paths"]["/api/v1/releases/payloads"]["post"]["requestBody"];
        assert_eq!(upload["content"]["application/octet-stream"]["schema"]["format"], "binary");
        assert!(document["paths"].get("/login").is_none(), "a page");
    }
}
