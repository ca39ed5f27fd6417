//! What every page shares: language, theme, navigation, the headers that pages are sent with.

use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, dev, web};
use askama::Template;
use futures_util::future::LocalBoxFuture;

use super::assets;
use super::i18n::{Language, grouped};
use super::moments::Moments;
use crate::config::Mode;
use crate::failures::incidents::{self, UNACKNOWLEDGED_SHOWN_MAX};
use crate::http::State;
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

/// Cookie with the language chosen in this browser.
pub(super) const LANGUAGE_COOKIE: &str = "tillward_language";
/// Cookie with the theme chosen in this browser.
pub(super) const THEME_COOKIE: &str = "tillward_theme";

/// Nothing inline, nothing from elsewhere: what a terminal or a person wrote can never run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Light, dark, or as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }
}

/// One entry of the navigation.
pub(super) struct Entry {
    pub(super) href: &'static str,
    pub(super) key: &'static str,
    pub(super) icon: Icon,
    pub(super) is_current: bool,
}

/// A group of entries; groups without one are absent.
pub(super) struct Group {
    pub(super) key: &'static str,
    pub(super) entries: Vec<Entry>,
}

/// A picture beside an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Icon {
    Overview,
    Terminals,
    Releases,
    Rollouts,
    Organizations,
    Operators,
    Audit,
    Incidents,
    Reconciliation,
    Imports,
    Merchants,
    Channels,
    Failures,
    Causes,
    Rules,
    Evidence,
    Alerts,
    NetworkAdvice,
    Fleet,
    Inspections,
    WorkOrders,
    Guidance,
    Field,
}

impl Icon {
    /// Outline on a grid of 20 × 20.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Overview => "M3 10h4v7H3zM8.5 3h4v14h-4zM14 7h3.5v10H14z",
            Self::Terminals => {
                "M5.5 2.5h9v15h-9zM8 5.5h4v3H8zM8 11.5h.01M10 11.5h.01M12 11.5h.01M8 14.5h.01M10 14.5h.01M12 14.5h.01"
            }
            Self::Releases => "M10 2.5l6.5 3.5v8L10 17.5 3.5 14V6zM3.5 6l6.5 3.7L16.5 6M10 9.7v7.8",
            Self::Rollouts => "M10 17V4M5 8.5L10 3.5l5 5M3.5 17h13",
            Self::Organizations => "M7.5 2.5h5v4h-5zM2.5 13h5v4h-5zM12.5 13h5v4h-5zM10 6.5v3.3M5 13V9.8h10V13",
            Self::Operators => {
                "M10 10a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4zM3.8 17c.6-3.1 3-4.8 6.2-4.8s5.6 1.7 6.2 4.8"
            }
            Self::Audit => "M5 2.5h10v15H5zM7.5 6.5h5M7.5 9.5h5M7.5 12.5h3",
            Self::Failures => "M2.5 5h15v10h-15zM2.5 8.5h15M6 12h.01M11.5 10.5l3 3M14.5 10.5l-3 3",
            Self::Causes => "M3 16.5V3.5M3 16.5h14M6.5 13.5V10M10 13.5V5.5M13.5 13.5V8",
            Self::Rules => "M3.5 4h13v12h-13zM3.5 8h13M3.5 12h13M8 4v12",
            Self::Evidence => "M4.5 2.5h7l4 4v11h-11zM11.5 2.5v4h4M7 12l2 2 4-4",
            Self::Alerts => "M3 4.5h14v9H9l-4 3.5v-3.5H3zM6.5 8h7M6.5 10.5h4.5",
            Self::Fleet => "M2.5 10.5h3.5l2-6 4 11 2-5h3.5",
            Self::NetworkAdvice => "M2.5 8a11 11 0 0 1 15 0M5.2 11a7 7 0 0 1 9.6 0M8 14a3.2 3.2 0 0 1 4 0M10 16.5h.01",
            Self::Inspections => "M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12zM13.5 13.5l4 4M6.5 9l2 2 3.5-4",
            Self::WorkOrders => "M7 3.5h6v3H7zM7 5H4.5v12.5h11V5H13M7.5 10.5h5M7.5 13.5h3",
            Self::Guidance => "M2.5 7.5L10 4l7.5 3.5L10 11zM5.5 9v4.5c2.5 2 6.5 2 9 0V9",
            Self::Field => "M6.5 2.5h7v15h-7zM9 15h2",
            Self::Incidents => "M10 3a5 5 0 0 0-5 5v3.5L3.5 14h13L15 11.5V8a5 5 0 0 0-5-5zM8 16.5a2 2 0 0 0 4 0",
            Self::Reconciliation => "M3 6h10M10 3l3 3-3 3M17 14H7M10 11l-3 3 3 3",
            Self::Imports => "M10 3v9M6.5 8.5L10 12l3.5-3.5M3.5 16.5h13",
            Self::Merchants => "M3.5 8h13l-1.5-4.5h-10zM4.5 8v8.5h11V8M8 16.5v-5h4v5",
            Self::Channels => "M3 10h4l2-5 3 10 2-5h3",
        }
    }
}

/// What every page is given.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    pub(super) language: Language,
    pub(super) theme: Theme,
    pub(super) moments: Moments,
    pub(super) caller: Option<Caller>,
    pub(super) mode: Mode,
    /// Path and query of this page.
    pub(super) address: String,
    /// What was just done, from the address: a word of the family `done`.
    pub(super) done: Option<String>,
    /// Incidents that nobody has taken on yet, for those who may see them.
    pub(super) unacknowledged: Option<usize>,
}

impl Shell {
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let state = request.app_data::<web::Data<State>>()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let cookie = |name: &str| request.cookie(name).map(|cookie| cookie.value().to_owned());
        let header = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let chosen = cookie(LANGUAGE_COOKIE).and_then(|tag| Language::of_tag(&tag));
        let own = caller.as_ref().and_then(|caller| Language::of_tag(&caller.language));
        let language =
            own.or(chosen).unwrap_or_else(|| Language::of_header(header(header::ACCEPT_LANGUAGE).unwrap_or_default()));
        let theme = cookie(THEME_COOKIE).and_then(|name| Theme::of_name(&name)).unwrap_or(Theme::Auto);
        let address = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let done = request.query_string().split('&').find_map(|pair| pair.strip_prefix("done=")).map(str::to_owned);
        Some(Self {
            language,
            theme,
            moments: Moments::new(&state.config.time_zone, language, state.clock.now()),
            caller,
            mode: state.config.mode,
            address,
            done,
            unacknowledged: None,
        })
    }

    pub(super) fn say(&self, key: &str) -> String {
        self.language.say(key)
    }

    pub(super) fn with(&self, key: &str, name: &'static str, value: impl std::fmt::Display) -> String {
        self.language.with(key, name, value)
    }

    pub(super) fn count(&self, key: &str, n: &i64) -> String {
        self.language.count(key, *n)
    }

    pub(super) fn word(&self, family: &str, name: &str) -> String {
        self.language.word(family, name)
    }

    pub(super) fn number(&self, n: &i64) -> String {
        grouped(*n)
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::address(name)
    }

    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    pub(super) fn as_of(&self) -> String {
        self.moments.time(self.moments.now().0)
    }

    pub(super) fn is_quickstart(&self) -> bool {
        self.mode == Mode::Quickstart
    }

    pub(super) fn csrf(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| caller.csrf_token.as_str())
    }

    /// What was just done, in words; an unknown name in the address says nothing.
    pub(super) fn notice(&self) -> Option<String> {
        let done = self.done.as_deref()?;
        let text = self.word("done", done);
        (text != done).then_some(text)
    }

    pub(super) fn may(&self, permission: Permission) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.role.allows(permission))
    }

    /// The entries that the caller's role can use.
    pub(super) fn navigation(&self) -> Vec<Group> {
        use Permission as P;
        let entry = |href: &'static str, key, icon, permission| {
            let path = self.address.split('?').next().unwrap_or_default();
            // `/m` is not the beginning of `/merchants`.
            let is_current = path.strip_prefix(href).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            self.may(permission).then_some(Entry { href, key, icon, is_current })
        };
        let groups = [
            (
                "nav-work",
                vec![
                    entry("/", "nav-overview", Icon::Overview, P::TerminalsRead),
                    entry("/terminals", "nav-terminals", Icon::Terminals, P::TerminalsRead),
                    entry("/failures", "nav-failures", Icon::Failures, P::FailuresRead),
                    entry("/causes", "explain-title", Icon::Causes, P::FailuresRead),
                    entry("/incidents", "nav-incidents", Icon::Incidents, P::IncidentsRead),
                    entry("/lookups", "nav-evidence", Icon::Evidence, P::FailuresRead),
                    entry("/alerts", "nav-alerts", Icon::Alerts, P::IncidentsRead),
                    entry("/fleet", "nav-fleet", Icon::Fleet, P::IncidentsRead),
                    entry("/network-advice", "nav-network-advice", Icon::NetworkAdvice, P::FailuresRead),
                ],
            ),
            (
                "nav-settlements",
                vec![
                    entry("/reconciliation", "nav-reconciliation", Icon::Reconciliation, P::SettlementsRead),
                    entry("/imports", "nav-imports", Icon::Imports, P::SettlementsRead),
                    entry("/merchants", "nav-merchants", Icon::Merchants, P::SettlementsRead),
                    entry("/channels", "nav-channels", Icon::Channels, P::SettlementsRead),
                ],
            ),
            (
                "nav-care",
                vec![
                    entry("/inspections", "nav-inspections", Icon::Inspections, P::MaintenanceRead),
                    entry("/work-orders", "nav-work-orders", Icon::WorkOrders, P::MaintenanceRead),
                    entry("/guidance", "nav-guidance", Icon::Guidance, P::MaintenanceRead),
                    entry("/m", "nav-field", Icon::Field, P::MaintenanceWork),
                ],
            ),
            (
                "nav-update",
                vec![
                    entry("/releases", "nav-releases", Icon::Releases, P::ReleasesRead),
                    entry("/rollouts", "nav-rollouts", Icon::Rollouts, P::RolloutsRead),
                ],
            ),
            (
                "nav-manage",
                vec![
                    entry("/organizations", "nav-organizations", Icon::Organizations, P::OrganizationsRead),
                    entry("/operators", "nav-operators", Icon::Operators, P::OperatorsRead),
                    entry("/rules", "nav-rules", Icon::Rules, P::FailuresRead),
                    entry("/audit", "nav-audit", Icon::Audit, P::AuditRead),
                ],
            ),
        ];
        let kept =
            groups.into_iter().map(|(key, entries)| Group { key, entries: entries.into_iter().flatten().collect() });
        kept.filter(|group: &Group| !group.entries.is_empty()).collect()
    }

    /// The number on the bell: `3`, `99+`; none when nothing waits.
    pub(super) fn bell(&self) -> Option<String> {
        match self.unacknowledged? {
            0 => None,
            n if n < UNACKNOWLEDGED_SHOWN_MAX => Some(n.to_string()),
            _ => Some(format!("{}+", UNACKNOWLEDGED_SHOWN_MAX - 1)),
        }
    }

    /// What the bell says to those who do not see it.
    pub(super) fn bell_words(&self) -> String {
        self.language.count("shell-bell", self.unacknowledged.unwrap_or(0))
    }

    /// The themes, the chosen one marked.
    pub(super) fn themes(&self) -> Vec<(&'static str, bool)> {
        Theme::ALL.into_iter().map(|theme| (theme.name(), theme == self.theme)).collect()
    }

    /// The languages by tag, the one in use marked.
    pub(super) fn languages(&self) -> Vec<(&'static str, bool)> {
        Language::ALL.into_iter().map(|language| (language.tag(), language == self.language)).collect()
    }
}

impl FromRequest for Shell {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let shell = Self::of(request);
        let state = request.app_data::<web::Data<State>>().cloned();
        Box::pin(async move {
            let mut shell = shell.ok_or_else(Problem::not_found)?;
            if let Some(state) = state {
                shell.unacknowledged = unacknowledged(&shell, &state).await;
            }
            Ok(shell)
        })
    }
}

/// What the bell shows; one short read. A page without it is better than none.
async fn unacknowledged(shell: &Shell, state: &State) -> Option<usize> {
    let caller = shell.caller.as_ref().filter(|_| shell.may(Permission::IncidentsRead))?;
    let scope = caller.scope.clone();
    let counted = state.db.read(move |conn| incidents::unacknowledged(conn, &scope)).await;
    counted.inspect_err(|error| tracing::warn!(%error, "open incidents could not be counted")).ok()
}

/// A page with the headers every page carries.
///
/// # Errors
/// 500 when the template fails, which only a formatting fault can cause.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Result<HttpResponse, Problem> {
    let body = template.render().map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::REFERRER_POLICY, "same-origin"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body))
}

/// 200 with a page.
///
/// # Errors
/// As [`page`].
pub(super) fn ok(template: &impl Template) -> Result<HttpResponse, Problem> {
    page(StatusCode::OK, template)
}

/// After a form: on to the page that shows what was done.
pub(super) fn see_other(location: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, location))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}
