//! Commands of the `tillward` program that work on a server's data.

pub mod operator;
