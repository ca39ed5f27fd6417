//! Walks THE table of endpoints as everybody who must not get in. A row that is new is walked by itself.

use actix_web::http::Method;
use tillward_server::http::endpoints::{Access, Endpoint, table};
use tillward_server::operators::Role;

use crate::harness::on_each_database;
use crate::world::{MARK, Who, World};

fn name(row: &Endpoint) -> String {
    format!("{} {}", row.method, row.path)
}

fn address(world: &World<'_>, row: &Endpoint) -> String {
    let known = world.address(row);
    known.unwrap_or_else(|| panic!("{}: name an object for its parameters in World::address", name(row)))
}

fn is_safe(row: &Endpoint) -> bool {
    matches!(row.method, Method::GET | Method::HEAD)
}

/// Somebody without any right there is turned away, from pages to the one that lets them sign in.
#[track_caller]
fn assert_shut(row: &Endpoint, answer: &(u16, Option<String>), who: &str) {
    let (status, location) = answer;
    match row.access {
        Access::Page(_) => {
            let to = location.as_deref().unwrap_or_default();
            assert_eq!(*status, 303, "{} {who}", name(row));
            assert!(to == "/login" || to.starts_with("/login?next=%2F"), "{} {who}: to {to}", name(row));
        }
        Access::Public | Access::Terminal | Access::Channel | Access::Operator(_) => {
            assert_eq!(*status, 401, "{} {who}", name(row))
        }
    }
}

#[test]
fn no_row_stands_in_the_table_twice() {
    let mut names: Vec<String> = table().iter().map(name).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn credentials_open_only_the_roots_they_are_for() {
    on_each_database(|server| {
        let world = World::new(server);
        let forged = format!("{}x", world.admin.token);
        for row in &table() {
            let at = address(&world, row);
            let shut_for = |who: Who<'_>, said: &str| assert_shut(row, &world.status(row, &at, who), said);
            match row.access {
                Access::Public => {
                    let (status, _) = world.status(row, &at, Who::Stranger);
                    assert!(status < 500, "{} as a stranger: {status}", name(row));
                    continue;
                }
                Access::Terminal | Access::Channel => shut_for(Who::Bearer(&world.admin.token), "as an operator"),
                Access::Operator(_) | Access::Page(_) => shut_for(Who::Bearer(&world.terminal), "as a terminal"),
            }
            shut_for(Who::Stranger, "as a stranger");
            shut_for(Who::Bearer(&world.admin.cookie), "with a refresh token as access token");
            shut_for(Who::Bearer(&forged), "with a forged token");
            // A cookie is for pages only, an access token for all else.
            match row.access {
                Access::Page(_) => shut_for(Who::Bearer(&world.admin.token), "with an access token"),
                Access::Public | Access::Terminal | Access::Channel | Access::Operator(_) => {
                    shut_for(Who::Cookie(&world.admin.cookie, "same-origin"), "with a cookie");
                }
            }
        }
    });
}

#[test]
fn a_role_without_the_permission_is_refused_on_every_row() {
    on_each_database(|server| {
        let world = World::new(server);
        let mut refused = 0;
        for row in &table() {
            let at = address(&world, row);
            let (Access::Operator(permission) | Access::Page(permission)) = row.access else { continue };
            for role in Role::ALL.into_iter().filter(|role| !role.allows(permission)) {
                let person = &world.ours[&role];
                let who = match row.access {
                    Access::Page(_) => Who::Cookie(&person.cookie, "same-origin"),
                    Access::Public | Access::Terminal | Access::Channel | Access::Operator(_) => {
                        Who::Bearer(&person.token)
                    }
                };
                assert_eq!(world.status(row, &at, who).0, 403, "{} as {}", name(row), role.as_str());
                refused += 1;
            }
        }
        assert!(refused > 20, "only {refused} refusals: the table is not what this test thinks");
    });
}

#[test]
fn a_page_that_changes_something_refuses_requests_of_other_sites() {
    on_each_database(|server| {
        let world = World::new(server);
        for row in table().iter().filter(|row| matches!(row.access, Access::Page(_)) && !is_safe(row)) {
            let at = address(&world, row);
            for site in ["cross-site", "same-site", "none"] {
                let answer = world.status(row, &at, Who::Cookie(&world.owner().cookie, site));
                assert_eq!(answer.0, 403, "{} from {site}", name(row));
            }
        }
    });
}

#[test]
fn what_belongs_to_another_organization_is_not_there() {
    on_each_database(|server| {
        let world = World::new(server);
        let (rows, mut last): (Vec<_>, Vec<_>) = table()
            .into_iter()
            .filter(|row| row.path.contains('{') && matches!(row.access, Access::Operator(_) | Access::Page(_)))
            .partition(|row| row.method != Method::DELETE);
        let who = |row: &Endpoint, theirs: bool| {
            let person = if theirs { world.other.clone() } else { world.owner().clone() };
            (matches!(row.access, Access::Page(_)), person)
        };
        let ask = |row: &Endpoint, theirs: bool| {
            let (is_page, person) = who(row, theirs);
            let at = address(&world, row);
            let who = if is_page { Who::Cookie(&person.cookie, "same-origin") } else { Who::Bearer(&person.token) };
            world.status(row, &at, who).0
        };
        for row in rows.iter().chain(&last) {
            let status = ask(row, true);
            let may_be_refused_earlier = matches!(row.access, Access::Page(_)) && !is_safe(row);
            if may_be_refused_earlier {
                // A form is read, and its token checked, before its object is looked for.
                assert!((400..500).contains(&status), "{} of another organization: {status}", name(row));
            } else {
                assert_eq!(status, 404, "{} of another organization", name(row));
            }
        }
        // The same requests find their object for its owner: the 404s above say something.
        last.splice(0..0, rows);
        for row in &last {
            let status = ask(row, false);
            assert!(status != 404 && status != 401 && status < 500, "{} for its owner: {status}", name(row));
        }
    });
}

#[test]
fn one_terminal_gets_nothing_of_another() {
    on_each_database(|server| {
        let world = World::new(server);
        let other = world.other_terminal();
        for row in table().iter().filter(|row| row.access == Access::Terminal && row.path.contains('{')) {
            let status = world.status(row, &address(&world, row), Who::Bearer(&other)).0;
            assert_eq!(status, 404, "{} of another terminal", name(row));
        }
    });
}

#[test]
fn lists_hold_nothing_of_another_organization() {
    on_each_database(|server| {
        let world = World::new(server);
        for row in &table() {
            // Makes one object of each kind.
            address(&world, row);
        }
        let mut with_mark = Vec::new();
        let lists = |row: &&Endpoint| matches!(row.access, Access::Operator(_)) && row.method == Method::GET;
        for row in table().iter().filter(lists).filter(|row| !row.path.contains('{')) {
            let ours = server.get(row.path, &world.owner().token);
            let theirs = server.get(row.path, &world.other.token);
            assert!(ours.status < 500 && theirs.status < 500, "{}: {} {}", name(row), ours.status, theirs.status);
            if ours.text().contains(MARK) {
                with_mark.push(row.path);
            }
            assert!(!theirs.text().contains(MARK), "{}: {}", name(row), theirs.text());
        }
        for path in
            ["/api/v1/organizations", "/api/v1/operators", "/api/v1/api-keys", "/api/v1/audit", "/api/v1/releases"]
        {
            assert!(with_mark.contains(&path), "{path} does not list what its owner has");
        }
    });
}

#[test]
fn every_row_of_the_interface_is_in_its_description() {
    on_each_database(|server| {
        let document = server.get("/api/openapi.json", "").expect(200).json();
        for row in table() {
            let is_interface = row.path.starts_with("/api/") || row.path.starts_with("/device/");
            if !is_interface || row.method == Method::HEAD {
                continue;
            }
            let operation = &document["paths"][row.path][row.method.as_str().to_lowercase()];
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(summary.len() > 5, "{} has no summary", name(&row));
            let responses = operation["responses"].as_object().unwrap_or_else(|| panic!("{} is missing", name(&row)));
            let success = responses.iter().find(|(status, _)| status.starts_with('2'));
            let (_, success) = success.unwrap_or_else(|| panic!("{} has no success response", name(&row)));
            assert!(!success["description"].as_str().unwrap().is_empty(), "{}", name(&row));
            assert_eq!(operation["security"].is_array(), row.access != Access::Public, "{}", name(&row));
        }
    });
}
