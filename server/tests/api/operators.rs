//! The first start, signing in, accounts and API keys.

use serde_json::{Value, json};
use tillward_server::cli::operator as command;
use tillward_server::config::Config;
use tillward_server::operators::sessions::{FAILURES_MAX, LOCK_MS, SESSION_MS};
use tillward_server::{audit, operators};

use crate::fixtures::{ADMIN, PASSWORD, admin, headquarters, operator, organization, session_of, token_of};
use crate::harness::{Answer, TestServer, on_each_database, on_each_database_with, wait_until};

fn sign_in(server: &TestServer, login: &str, password: &str) -> Answer {
    server.post("/api/v1/session", "", &json!({ "login": login, "password": password }))
}

fn patch(server: &TestServer, path: &str, token: &str, body: &Value) -> Answer {
    server.send("PATCH", path, token, &[("content-type", "application/json")], body.to_string().as_bytes())
}

fn actions(server: &TestServer, token: &str) -> Vec<String> {
    let entries = server.get("/api/v1/audit?size=100", token).expect(200).json();
    let items = entries["items"].as_array().unwrap().clone();
    items.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_bootstrap_token_makes_the_first_administrator_once() {
    on_each_database(|server| {
        let bootstrap = || server.block_on(operators::bootstrap(&server.state.db, server.clock.now())).unwrap();
        let set_up = |token: &str, login: &str| {
            let body = json!({
                "bootstrap_token": token, "login": login, "name": "First", "password": PASSWORD,
                "organization_name": "总部", "language": "zh-CN",
            });
            server.post("/api/v1/setup", "", &body)
        };
        let voided = bootstrap().unwrap();
        let token = bootstrap().unwrap();
        assert!(token.len() >= 32, "128 random bits at least");
        assert_eq!(set_up("", "boss").expect(401).json()["code"], "unauthorized");
        set_up(&voided, "boss").expect(401);
        // A refused field leaves the token good.
        assert_eq!(set_up(&token, "no spaces").expect(422).json()["field"], "login");
        let made = set_up(&token, "boss").expect(201).json();
        assert_eq!(made["role"], "platform_admin");
        set_up(&token, "second").expect(409);
        assert_eq!(bootstrap(), None);
        let token = token_of(server, "boss");
        let organizations = server.get("/api/v1/organizations", &token).expect(200).json();
        assert_eq!(organizations["items"][0]["name"], "总部");
        assert_eq!(organizations["items"][0]["level"], 0);
    });
}

#[test]
fn an_unknown_login_and_a_wrong_password_look_the_same_also_when_locked() {
    on_each_database(|server| {
        admin(server);
        let wrong = |login: &str| sign_in(server, login, "wrong horse battery");
        let mut answers = Vec::new();
        for login in [ADMIN, "nobody.at.all"] {
            let failures: Vec<_> = (0..FAILURES_MAX).map(|_| wrong(login).expect(401).json()).collect();
            let locked = sign_in(server, &login.to_uppercase(), PASSWORD).expect(429);
            assert_eq!(locked.json()["code"], "locked");
            let retry_after_s: i64 = locked.header("retry-after").unwrap().parse().unwrap();
            assert!((LOCK_MS / 1_000 - 60..=LOCK_MS / 1_000).contains(&retry_after_s), "{retry_after_s}");
            answers.push(failures);
        }
        assert_eq!(answers[0], answers[1]);
        server.clock.advance_ms(LOCK_MS);
        wrong(ADMIN).expect(401);
        sign_in(server, ADMIN, PASSWORD).expect(200);
        // The success cleared the count.
        for _ in 1..FAILURES_MAX {
            wrong(ADMIN).expect(401);
        }
        sign_in(server, ADMIN, PASSWORD).expect(200);
    });
}

#[test]
fn one_address_cannot_try_many_logins() {
    on_each_database(|server| {
        let limit = &server.state.sign_in_limit;
        let here = "127.0.0.1".parse().ok();
        wait_until("the address is slowed down", || {
            // Uses up what the address has; another try is let through each second.
            while limit.check(here).is_ok() {}
            let answer = sign_in(server, "nobody", "wrong horse battery");
            answer.status == 429 && answer.header("retry-after").is_some()
        });
    });
}

#[test]
fn behind_a_trusted_proxy_each_client_is_counted_for_itself() {
    let behind_proxy = |config: &mut Config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let sign_in_for = |server: &TestServer, forwarded: &str| {
        let body = json!({ "login": "nobody", "password": "wrong horse battery" }).to_string();
        let headers = [("content-type", "application/json"), ("x-forwarded-for", forwarded)];
        server.send("POST", "/api/v1/session", "", &headers, body.as_bytes()).status
    };
    on_each_database_with(behind_proxy, |server| {
        let guesser = "203.0.113.9".parse().ok();
        wait_until("the guesser is slowed down", || {
            while server.state.sign_in_limit.check(guesser).is_ok() {}
            sign_in_for(server, "203.0.113.9") == 429
        });
        assert_eq!(sign_in_for(server, "198.51.100.1"), 401, "somebody else behind the same proxy");
        // What the guesser writes itself stands left of what the proxy adds.
        wait_until("it does not help to lie", || {
            while server.state.sign_in_limit.check(guesser).is_ok() {}
            sign_in_for(server, "192.0.2.77, 203.0.113.9") == 429
        });
    });
    on_each_database(|server| {
        let here = "127.0.0.1".parse().ok();
        wait_until("nobody is believed unasked", || {
            while server.state.sign_in_limit.check(here).is_ok() {}
            sign_in_for(server, "198.51.100.1") == 429
        });
    });
}

#[test]
fn two_requests_with_one_bootstrap_token_make_one_administrator() {
    on_each_database(|server| {
        let token = server.block_on(operators::bootstrap(&server.state.db, server.clock.now())).unwrap().unwrap();
        let url = format!("{}/api/v1/setup", server.url);
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let attempt = |login: &'static str| {
                let body = json!({ "bootstrap_token": token, "login": login, "name": "N", "password": PASSWORD });
                let url = &url;
                scope.spawn(move || {
                    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
                    let request = config.new_agent().post(url).content_type("application/json");
                    request.send(body.to_string()).unwrap().status().as_u16()
                })
            };
            let attempts = ["one.admin", "two.admin", "three.admin"].map(attempt);
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
    });
}

#[test]
fn a_refresh_token_is_good_once_and_its_reuse_ends_the_session() {
    on_each_database(|server| {
        admin(server);
        let refresh = |token: &Value| server.post("/api/v1/session/refresh", "", &json!({ "refresh_token": token }));
        let first = session_of(server, ADMIN);
        assert!(first["refresh_token"].as_str().unwrap().starts_with("twr_"));
        let second = refresh(&first["refresh_token"]).expect(200).json();
        let third = refresh(&second["refresh_token"]).expect(200).json();
        let access = third["access_token"].as_str().unwrap();
        server.get("/api/v1/me", access).expect(200);
        assert_eq!(third["session_expires_at_ms"], first["session_expires_at_ms"]);
        refresh(&first["refresh_token"]).expect(401);
        refresh(&third["refresh_token"]).expect(401);
        server.get("/api/v1/me", access).expect(401);
        let other = session_of(server, ADMIN);
        assert!(actions(server, other["access_token"].as_str().unwrap()).contains(&"sessions.token_reused".to_owned()));
        for garbage in ["", "twr_", "twr_00", "中文", "twk_0000000000000000000000000000000000"] {
            refresh(&json!(garbage)).expect(401);
        }
    });
}

#[test]
fn a_session_ends_by_signing_out_and_by_time() {
    on_each_database(|server| {
        let token = admin(server);
        server.send("DELETE", "/api/v1/session", &token, &[], b"").expect(204);
        server.get("/api/v1/me", &token).expect(401);
        let session = session_of(server, ADMIN);
        server.clock.advance_ms(16 * 60_000);
        let access = session["access_token"].as_str().unwrap();
        server.get("/api/v1/me", access).expect(401);
        let body = json!({ "refresh_token": session["refresh_token"] });
        let renewed = server.post("/api/v1/session/refresh", "", &body).expect(200).json();
        server.get("/api/v1/me", renewed["access_token"].as_str().unwrap()).expect(200);
        server.clock.advance_ms(SESSION_MS);
        let body = json!({ "refresh_token": renewed["refresh_token"] });
        server.post("/api/v1/session/refresh", "", &body).expect(401);
    });
}

#[test]
fn a_new_password_ends_the_other_sessions_and_needs_the_present_one() {
    on_each_database(|server| {
        let here = admin(server);
        let there = token_of(server, ADMIN);
        let change = |present: &str, new: &str| {
            server.post("/api/v1/me/password", &here, &json!({ "present_password": present, "password": new }))
        };
        assert_eq!(change("not the one I have", "another fine phrase").expect(422).json()["field"], "present_password");
        assert_eq!(change(PASSWORD, "short").expect(422).json()["field"], "password");
        change(PASSWORD, "another fine phrase").expect(204);
        server.get("/api/v1/me", &here).expect(200);
        server.get("/api/v1/me", &there).expect(401);
        sign_in(server, ADMIN, PASSWORD).expect(401);
        sign_in(server, ADMIN, "another fine phrase").expect(200);
    });
}

#[test]
fn nobody_grants_or_touches_more_than_their_own_role() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let east = organization(server, &token, root, "EAST");
        let boss = operator(server, &token, east, "org_admin");
        let manager = operator(server, &token, east, "release_manager");
        let new = |role: &str, organization_id: i64| {
            json!({ "organization_id": organization_id, "login": format!("new.{role}"), "name": "N",
                    "password": PASSWORD, "role": role })
        };
        server.post("/api/v1/operators", &boss.token, &new("platform_admin", east)).expect(403);
        server.post("/api/v1/operators", &boss.token, &new("release_manager", east)).expect(403);
        let outside = server.post("/api/v1/operators", &boss.token, &new("field", root)).expect(422);
        assert_eq!(outside.json()["field"], "organization_id");
        server.post("/api/v1/operators", &boss.token, &new("field", east)).expect(201);
        assert_eq!(
            server.post("/api/v1/operators", &boss.token, &new("field", east)).expect(409).json()["field"],
            "login"
        );
        // An account with more rights than one's own cannot be taken over.
        let manager_path = format!("/api/v1/operators/{}", manager.id);
        patch(server, &manager_path, &boss.token, &json!({ "version": 1, "status": "disabled" })).expect(403);
        server
            .post(&format!("{manager_path}/password"), &boss.token, &json!({ "password": "a fine new phrase" }))
            .expect(403);
        // Nor does anybody change what they are themselves.
        let own = format!("/api/v1/operators/{}", boss.id);
        patch(server, &own, &boss.token, &json!({ "version": 1, "role": "auditor" })).expect(403);
        patch(server, &own, &boss.token, &json!({ "version": 1, "status": "disabled" })).expect(403);
        server.post(&format!("{own}/password"), &boss.token, &json!({ "password": "a fine new phrase" })).expect(403);
        let renamed = patch(server, &own, &boss.token, &json!({ "version": 1, "name": "李娜", "language": "zh-CN" }));
        assert_eq!(renamed.expect(200).json()["name"], "李娜");
        // What is outside one's organization is not there.
        let admin_id = server.get("/api/v1/me", &token).expect(200).json()["id"].as_i64().unwrap();
        server.get(&format!("/api/v1/operators/{admin_id}"), &boss.token).expect(404);
        let seen = server.get("/api/v1/operators", &boss.token).expect(200).json();
        assert!(seen["items"].as_array().unwrap().iter().all(|operator| operator["organization_id"] == east));
    });
}

#[test]
fn a_change_based_on_an_old_version_is_refused() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let person = operator(server, &token, root, "field");
        let path = format!("/api/v1/operators/{}", person.id);
        let after = patch(server, &path, &token, &json!({ "version": 1, "role": "org_ops" })).expect(200).json();
        assert_eq!((&after["role"], &after["version"]), (&json!("org_ops"), &json!(2)));
        patch(server, &path, &token, &json!({ "version": 1, "role": "field" })).expect(409);
        assert_eq!(server.get(&path, &token).expect(200).json(), after);
        assert_eq!(
            patch(server, &path, &token, &json!({ "version": 2, "rank": 1 })).expect(422).json()["field"],
            "rank"
        );
    });
}

#[test]
fn disabling_ends_sessions_and_the_keys_they_made() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let person = operator(server, &token, root, "org_admin");
        let key = json!({ "name": "export", "role": "auditor", "expires_in_days": 30 });
        let secret = server.post("/api/v1/api-keys", &person.token, &key).expect(201).json()["secret"].clone();
        let secret = secret.as_str().unwrap().to_owned();
        server.get("/api/v1/me", &secret).expect(200);
        let path = format!("/api/v1/operators/{}", person.id);
        patch(server, &path, &token, &json!({ "version": 1, "status": "disabled" })).expect(200);
        server.get("/api/v1/me", &person.token).expect(401);
        server.get("/api/v1/me", &secret).expect(401);
        sign_in(server, &person.login, PASSWORD).expect(401);
        patch(server, &path, &token, &json!({ "version": 2, "status": "active" })).expect(200);
        sign_in(server, &person.login, PASSWORD).expect(200);
        server.get("/api/v1/me", &person.token).expect(401);
        server.get("/api/v1/me", &secret).expect(401);
    });
}

#[test]
fn a_reset_password_ends_sessions_and_the_lock() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let person = operator(server, &token, root, "field");
        for _ in 0..FAILURES_MAX {
            sign_in(server, &person.login, "wrong horse battery").expect(401);
        }
        sign_in(server, &person.login, PASSWORD).expect(429);
        let path = format!("/api/v1/operators/{}/password", person.id);
        server.post(&path, &token, &json!({ "password": "a fine new phrase" })).expect(204);
        server.get("/api/v1/me", &person.token).expect(401);
        sign_in(server, &person.login, "a fine new phrase").expect(200);
    });
}

#[test]
fn an_api_key_is_shown_once_has_a_role_and_an_end_and_can_be_revoked() {
    on_each_database(|server| {
        let token = admin(server);
        let new = |days: u32| json!({ "name": "nightly export", "role": "auditor", "expires_in_days": days });
        for days in [0, 401] {
            let refused = server.post("/api/v1/api-keys", &token, &new(days)).expect(422);
            assert_eq!(refused.json()["field"], "expires_in_days");
        }
        let made = server.post("/api/v1/api-keys", &token, &new(30)).expect(201).json();
        let secret = made["secret"].as_str().unwrap().to_owned();
        assert!(secret.starts_with("twk_") && secret.len() == 68, "{} characters", secret.len());
        let me = server.get("/api/v1/me", &secret).expect(200).json();
        assert_eq!((&me["kind"], &me["role"]), (&json!("api_key"), &json!("auditor")));
        server.post("/api/v1/api-keys", &secret, &new(30)).expect(403);
        server.post("/api/v1/me/password", &secret, &json!({ "present_password": "", "password": "" })).expect(403);
        server.send("DELETE", "/api/v1/session", &secret, &[], b"").expect(403);
        let listed = || server.get("/api/v1/api-keys", &token).expect(200);
        assert!(!listed().text().contains(&secret));
        wait_until("the key's use is noted", || listed().json()["items"][0]["last_used_at_ms"].is_i64());
        let path = format!("/api/v1/api-keys/{}", made["api_key"]["id"]);
        server.send("DELETE", &path, &token, &[], b"").expect(204);
        server.send("DELETE", &path, &token, &[], b"").expect(204);
        server.get("/api/v1/me", &secret).expect(401);
        let short = server.post("/api/v1/api-keys", &token, &new(1)).expect(201).json();
        let short = short["secret"].as_str().unwrap().to_owned();
        server.get("/api/v1/me", &short).expect(200);
        server.clock.advance_ms(86_400_000);
        server.get("/api/v1/me", &short).expect(401);
    });
}

#[test]
fn a_smaller_role_ends_the_keys_that_may_do_more() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let person = operator(server, &token, root, "org_admin");
        let make = |role: &str| {
            let key = json!({ "name": role, "role": role, "expires_in_days": 30 });
            let made = server.post("/api/v1/api-keys", &person.token, &key).expect(201).json();
            made["secret"].as_str().unwrap().to_owned()
        };
        let (large, small) = (make("org_admin"), make("org_ops"));
        let path = format!("/api/v1/operators/{}", person.id);
        patch(server, &path, &token, &json!({ "version": 1, "role": "org_ops" })).expect(200);
        server.get("/api/v1/me", &large).expect(401);
        server.get("/api/v1/me", &small).expect(200);
        server.get("/api/v1/operators", &person.token).expect(403);
    });
}

#[test]
fn secrets_are_in_no_table_and_every_change_is_in_the_audit_log() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let person = operator(server, &token, root, "field");
        let path = format!("/api/v1/operators/{}", person.id);
        let changed = patch(server, &path, &token, &json!({ "version": 1, "name": "Other" })).expect(200);
        let request_id = changed.header("x-request-id").unwrap().to_owned();
        let entries = server.get("/api/v1/audit?size=100", &token).expect(200);
        assert!(!entries.text().contains(PASSWORD) && !entries.text().contains("argon2"));
        let newest = entries.json()["items"][0].clone();
        assert_eq!(newest["action"], "operators.update");
        assert_eq!((&newest["actor_name"], &newest["request_id"]), (&json!(ADMIN), &json!(request_id)));
        let seen = actions(server, &token);
        for action in ["organizations.create", "operators.create", "sessions.open"] {
            assert!(seen.contains(&action.to_owned()), "{action} in {seen:?}");
        }
        let verdict = server.block_on(audit::verify(&server.state.db, None)).unwrap();
        assert_eq!((verdict.broken_at, verdict.problem), (None, None));
        // The chain is everybody's: who sees a part of the tree learns neither its length nor its head.
        let east = organization(server, &token, root, "EAST");
        let auditor = operator(server, &token, east, "auditor");
        server.get("/api/v1/audit/verify", &auditor.token).expect(404);
        assert_eq!(server.get("/api/v1/audit/verify", &token).expect(200).json()["problem"], Value::Null);
        if let Some(file) = server.state.db.sqlite_path() {
            for suffix in ["", "-wal"] {
                let bytes = std::fs::read(format!("{}{suffix}", file.display())).unwrap_or_default();
                let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!holds(PASSWORD), "the password is in the file");
                assert!(!holds("twr_"), "a refresh token is in the file");
            }
        }
    });
}

#[test]
fn one_operator_holds_a_bounded_number_of_sessions() {
    on_each_database(|server| {
        let first = admin(server);
        let sign_in = || {
            let signing_in = operators::sign_in(&server.state.db, ADMIN, PASSWORD, "browser\n", server.clock.now());
            server.block_on(signing_in).unwrap()
        };
        for _ in 0..19 {
            sign_in();
        }
        server.get("/api/v1/me", &first).expect(200);
        server.clock.advance_ms(1);
        let newest = sign_in();
        server.get("/api/v1/me", &first).expect(401);
        let caller = operators::caller_of_refresh_token(&server.state.db, &newest.refresh_token, server.clock.now());
        assert_eq!(server.block_on(caller).unwrap(), Some(newest.caller));
    });
}

#[test]
fn the_command_makes_lists_resets_and_disables_accounts() {
    on_each_database(|server| {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(subcommand)]
            command: command::Command,
        }
        let run = |arguments: &[&str], input: &str| -> Result<String, String> {
            let cli = <Cli as clap::Parser>::try_parse_from([&["operator"], arguments].concat());
            let command = cli.map_err(|error| error.to_string())?.command;
            let mut output = Vec::new();
            let now = server.clock.now();
            let done = command::run(&server.state.db, command, input.as_bytes(), &mut output, now);
            server.block_on(done).map_err(|error| format!("{error:#}"))?;
            Ok(String::from_utf8(output).unwrap())
        };
        assert!(run(&["create", "boss"], "\n").unwrap_err().contains("standard input"));
        assert!(run(&["create", "boss", "--role", "king"], PASSWORD).unwrap_err().contains("known roles"));
        assert!(run(&["create", "boss", "--organization", "NONE"], PASSWORD).unwrap_err().contains("NONE"));
        run(&["create", "boss", "--name", "王芳"], &format!("{PASSWORD}\r\n")).unwrap();
        assert!(run(&["create", "boss"], PASSWORD).unwrap_err().contains("taken"));
        assert_eq!(server.block_on(operators::bootstrap(&server.state.db, server.clock.now())).unwrap(), None);
        let token = token_of(server, "boss");
        assert!(run(&["list"], "").unwrap().contains("boss\tplatform_admin\tactive\t/1/\t王芳"));
        run(&["reset-password", "boss"], "a fine new phrase").unwrap();
        server.get("/api/v1/me", &token).expect(401);
        sign_in(server, "boss", "a fine new phrase").expect(200);
        run(&["disable", "BOSS"], "").unwrap();
        sign_in(server, "boss", "a fine new phrase").expect(401);
        assert!(run(&["disable", "nobody"], "").unwrap_err().contains("no operator nobody"));
    });
}
