//! THE table of endpoints: the router, the authorization matrix, the OpenAPI document and the test oracle.
//!
//! Each domain lists its own; nothing is routed that is not in here. A guard made from the declared access runs
//! before any extractor touches the request.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder, Route, web};
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterIn};
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, KnownFormat, ObjectBuilder, RefOr, Required, ResponseBuilder, Schema, SchemaFormat,
    Type,
};

use crate::operators::Permission;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// A terminal with a session token.
    Terminal,
    /// A channel that signed the body; `{id}` is its number.
    Channel,
    /// An operator's access token or an API key with this permission.
    Operator(Permission),
    /// A signed-in browser with this permission; others are sent to the login page.
    Page(Permission),
}

/// One row of the table.
pub struct Endpoint {
    /// Method.
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does, one line; empty for pages.
    pub summary: &'static str,
    pub(super) operation: Operation,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
    route: Box<dyn Fn() -> Route + Send + Sync>,
}

impl Endpoint {
    /// A row; `handler` runs after the guard.
    pub fn new<H, Args>(method: Method, path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<Args> + Send + Sync,
        Args: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        let verb = method.clone();
        Self {
            method,
            path,
            access,
            summary,
            operation: OperationBuilder::new().summary(Some(summary)).build(),
            schemas: Vec::new(),
            route: Box::new(move || web::method(verb.clone()).to(handler.clone())),
        }
    }

    /// A row for GET.
    pub fn get<H, Args>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<Args> + Send + Sync,
        Args: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        Self::new(Method::GET, path, access, summary, handler)
    }

    /// A row for POST.
    pub fn post<H, Args>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<Args> + Send + Sync,
        Args: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        Self::new(Method::POST, path, access, summary, handler)
    }

    /// Documents the query parameters.
    pub fn query<T: utoipa::IntoParams>(self) -> Self {
        let parameters = T::into_params(|| Some(ParameterIn::Query));
        self.change(|operation| operation.parameters(Some(parameters)))
    }

    /// Documents the JSON body.
    pub fn body<T: utoipa::ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(self.schema::<T>())).build();
        let body = utoipa::openapi::request_body::RequestBodyBuilder::new()
            .content("application/json", content)
            .required(Some(Required::True));
        self.change(|operation| operation.request_body(Some(body.build())))
    }

    /// Documents a body that is a file.
    pub fn body_file(self, content_type: &'static str, description: &'static str) -> Self {
        let bytes = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .build();
        let body = utoipa::openapi::request_body::RequestBodyBuilder::new()
            .content(content_type, ContentBuilder::new().schema(Some(bytes)).build())
            .description(Some(description))
            .required(Some(Required::True));
        self.change(|operation| operation.request_body(Some(body.build())))
    }

    /// Documents the answer.
    pub fn returns<T: utoipa::ToSchema>(mut self, status: u16, description: &'static str) -> Self {
        let content = ContentBuilder::new().schema(Some(self.schema::<T>())).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content);
        self.change(|operation| operation.response(status.to_string(), response.build()))
    }

    /// Documents an answer that is a list of these.
    pub fn returns_list<T: utoipa::ToSchema>(mut self, status: u16, description: &'static str) -> Self {
        let list = ArrayBuilder::new().items(self.schema::<T>()).build();
        let content = ContentBuilder::new().schema(Some(list)).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content);
        self.change(|operation| operation.response(status.to_string(), response.build()))
    }

    /// Documents an answer without JSON.
    pub fn returns_empty(self, status: u16, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.change(|operation| operation.response(status.to_string(), response.build()))
    }

    fn schema<T: utoipa::ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().to_string();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        RefOr::Ref(utoipa::openapi::Ref::from_schema_name(name))
    }

    fn change(mut self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        self.operation = change(OperationBuilder::from(self.operation)).build();
        self
    }

    pub(super) fn route(&self) -> Route {
        (self.route)()
    }
}

/// Every endpoint of the server.
pub fn table() -> Vec<Endpoint> {
    [
        super::endpoints(),
        crate::checkin::http::endpoints(),
        crate::terminals::http::endpoints(),
        crate::organizations::http::endpoints(),
        crate::operators::http::endpoints(),
        crate::profiles::http::endpoints(),
        crate::releases::http::endpoints(),
        crate::rollouts::http::endpoints(),
        crate::failures::http::endpoints(),
        crate::failures::verdicts::http::endpoints(),
        crate::failures::imported::http::endpoints(),
        crate::failures::lookups::http::endpoints(),
        crate::failures::pack::http::endpoints(),
        crate::payments::http::endpoints(),
        crate::failures::incidents::http::endpoints(),
        crate::failures::feed::http::endpoints(),
        crate::failures::reconcile::http::endpoints(),
        crate::imports::http::endpoints(),
        crate::merchants::http::endpoints(),
        crate::alerts::http::endpoints(),
        crate::audit::http::endpoints(),
        crate::console::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
