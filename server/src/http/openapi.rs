//! The OpenAPI document, made from the endpoint table.

use actix_web::http::Method;
use actix_web::{HttpResponse, Responder};
use utoipa::openapi::path::{HttpMethod, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::endpoints::{Access, Endpoint, table};
use super::problem::Problem;

/// Serves the document.
pub(super) async fn document() -> impl Responder {
    HttpResponse::Ok().json(build(&table()))
}

/// The document for these endpoints: everything under `/api`, `/device` and the health checks; pages are not in it.
pub fn build(endpoints: &[Endpoint]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .security_scheme("operator", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()))
        .security_scheme("terminal", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()));
    for endpoint in endpoints.iter().filter(|endpoint| !matches!(endpoint.access, Access::Page(_))) {
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
