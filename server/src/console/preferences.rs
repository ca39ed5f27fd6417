//! Language and theme of this browser, kept in cookies so that the server renders the right page at once.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::form::{OpenForm, local_path};
use super::i18n::Language;
use super::shell::{self, LANGUAGE_COOKIE, THEME_COOKIE, Theme};
use crate::http::State;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;

/// A year: the choice is a habit of this browser.
const KEPT: Duration = Duration::days(365);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::post("/preferences", Access::Public, "", choose)]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    theme: Option<String>,
    #[serde(default)]
    back: Option<String>,
}

async fn choose(state: web::Data<State>, OpenForm(choice): OpenForm<Choice>) -> Result<HttpResponse, Problem> {
    let mut response = shell::see_other(local_path(choice.back.as_deref().unwrap_or("/")));
    let chosen = [
        (LANGUAGE_COOKIE, choice.language.and_then(|tag| Language::of_tag(&tag)).map(Language::tag)),
        (THEME_COOKIE, choice.theme.and_then(|name| Theme::of_name(&name)).map(Theme::name)),
    ];
    for (name, value) in chosen {
        let Some(value) = value else { continue };
        let cookie = Cookie::build(name, value)
            .path("/")
            .same_site(SameSite::Lax)
            .http_only(true)
            .secure(state.config.is_secure())
            .max_age(KEPT)
            .finish();
        response.add_cookie(&cookie).map_err(|error| Problem::internal(&error))?;
    }
    Ok(response)
}
