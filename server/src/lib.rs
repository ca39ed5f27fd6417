//! Tillward's server: keeps a fleet of payment terminals known, current and explainable.

#![allow(rustdoc::private_intra_doc_links)] // Links lead readers of the source.

pub mod addresses;
pub mod alerts;
pub mod app;
pub mod audit;
pub mod blobs;
pub mod checkin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod db;
pub mod failures;
pub mod guard;
pub mod http;
pub mod imports;
pub mod merchants;
pub mod observe;
pub mod operators;
pub mod organizations;
pub mod payments;
pub mod pdf;
pub mod profiles;
pub mod releases;
pub mod rollouts;
pub use db::settings;
pub mod signing;
pub mod simulate;
pub mod terminals;
pub mod text;
pub mod workers;
