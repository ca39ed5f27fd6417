//! Packages: uploaded, approved, published, withdrawn.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tillward_protocol::trust::TARGET_BYTES_MAX;

use super::form::Form;
use super::rollout::mebibytes;
use super::rollouts::{Chip, names};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use super::status::{Status, Tone};
use super::upload::Upload;
use crate::config::Mode;
use crate::http::State;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{RequestId, State as _State};
use crate::operators::{Caller, Permission};
use crate::releases::{self, Author, Filter, NewRelease, OwnApproval, Release, ReleaseError, ReleaseState};
