//! Language and theme, kept in cookies so that the server renders the right page at once; the language of somebody who
//! is signed in is their account's, whatever browser they use.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::form::{OpenForm, local_path};
use super::i18n::Language;
use super::shell::{self, LANGUAGE_COOKIE, THEME_COOKIE, Theme};
use crate::http::State;
use crate::http::auth::cookie_name;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators;

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

async fn choose(
    request: HttpRequest,
    state: web::Data<State>,
    OpenForm(choice): OpenForm<Choice>,
) -> Result<HttpResponse, Problem> {
    let language = choice.language.as_deref().and_then(Language::of_tag);
    if let Some(language) = language {
        keep_in_account(&request, &state, language).await?;
    }
    let mut response = shell::see_other(local_path(choice.back.as_deref().unwrap_or("/")));
    let chosen = [
        (LANGUAGE_COOKIE, language.map(Language::tag)),
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

/// The page is open to everybody: who is not signed in has no account to keep it in.
async fn keep_in_account(request: &HttpRequest, state: &State, language: Language) -> Result<(), Problem> {
    let now = state.clock.now();
    let Some(token) = request.cookie(cookie_name(state.config.is_secure())) else { return Ok(()) };
    let Some(caller) = operators::caller_of_refresh_token(&state.db, token.value(), now).await? else { return Ok(()) };
    let language = operators::Language::parse(language.tag());
    Ok(operators::choose_language(&state.db, &caller, language, now).await?)
}
