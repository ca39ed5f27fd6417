//! `tillward operator …`: accounts without the console, for the first start by script and for a lost password.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::audit::Actor;
use crate::clock::Now;
use crate::db::Db;
use crate::operators::{self, Caller, Change, Language, NewOperator, Operator, Role, Scope, Status};
use crate::organizations;

/// Rows read at a time by `list`.
const BLOCK: u32 = 100;
/// Longest password line that is read from the standard input, bytes.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// What to do with accounts. Passwords are read from the standard input, never from arguments.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes an account; its password is the first line of the standard input.
    Create(Create),
    /// Prints all accounts, one a line: login, role, status, organization, name.
    List,
    /// Gives an account a new password, the first line of the standard input, and ends its sessions.
    ResetPassword {
        /// Login name.
        login: String,
    },
    /// Disables an account and ends its sessions and API keys.
    Disable {
        /// Login name.
        login: String,
    },
}

/// A new account.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// Login name.
    login: String,
    /// The person's name; the login name when absent.
    #[arg(long)]
    name: Option<String>,
    /// Role: platform_admin, release_manager, approver, org_admin, org_ops, field or auditor.
    #[arg(long, default_value = "platform_admin", value_parser = role)]
    role: Role,
    /// Short code of its organization.
    #[arg(long, value_name = "CODE", default_value = organizations::HEADQUARTERS_CODE)]
    organization: String,
    /// Language of the console: zh-CN or en.
    #[arg(long, default_value = "zh-CN", value_parser = language)]
    language: Language,
}

fn role(name: &str) -> Result<Role, String> {
    Role::parse(name).ok_or_else(|| format!("known roles: {}", Role::ALL.map(Role::as_str).join(", ")))
}

fn language(tag: &str) -> Result<Language, String> {
    let language = Language::parse(tag);
    if language.as_str() == tag { Ok(language) } else { Err("known languages: zh-CN, en".to_owned()) }
}

/// Runs one command; `input` gives passwords, `output` takes what people read.
///
/// # Errors
/// What was refused, as a sentence; failures of the database and of `input` and `output`.
pub async fn run(db: &Db, command: Command, input: impl Read, output: &mut impl Write, now: Now) -> anyhow::Result<()> {
    let caller = Caller::command("tillward operator");
    let actor = Actor::system("tillward operator");
    match command {
        Command::Create(create) => {
            let new = new_operator(db, create, password(input)?, now).await?;
            let made = operators::create(db, &caller, &actor, new, now).await?;
            writeln!(output, "created {} ({})", made.login, made.role.as_str())?;
        }
        Command::List => list(db, output).await?,
        Command::ResetPassword { login } => {
            let found = find(db, &login).await?;
            operators::reset_password(db, &caller, &actor, found.id, password(input)?, now).await?;
            writeln!(output, "{} has a new password; its sessions have ended", found.login)?;
        }
        Command::Disable { login } => {
            let found = find(db, &login).await?;
            let status = Some(Status::Disabled);
            let change = Change { version: found.version, name: None, role: None, status, language: None };
            operators::update(db, &caller, &actor, found.id, change, now).await?;
            writeln!(output, "{} is disabled; its sessions and API keys have ended", found.login)?;
        }
    }
    Ok(())
}

async fn new_operator(db: &Db, create: Create, password: String, now: Now) -> anyhow::Result<NewOperator> {
    let code = create.organization.clone();
    let organization = db
        .write(move |conn| {
            organizations::ensure_headquarters(conn, now)?;
            organizations::find_by_short_code(conn, &Scope::everything(), &code)
        })
        .await?;
    let organization = organization
        .with_context(|| format!("there is no organization with the short code {}", create.organization))?;
    Ok(NewOperator {
        organization_id: organization.id,
        name: create.name.unwrap_or_else(|| create.login.clone()),
        login: create.login,
        password,
        role: create.role,
        language: create.language,
    })
}

async fn list(db: &Db, output: &mut impl Write) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let block = operators::list(db, &Scope::everything(), after, BLOCK).await?;
        let Some(last) = block.last() else { return Ok(()) };
        after = Some(last.id);
        for operator in &block {
            let Operator { login, role, status, org_path, name, .. } = operator;
            writeln!(output, "{login}\t{}\t{}\t{org_path}\t{name}", role.as_str(), status.as_str())?;
        }
    }
}

async fn find(db: &Db, login: &str) -> anyhow::Result<Operator> {
    let found = operators::find_by_login(db, &Scope::everything(), login).await?;
    found.with_context(|| format!("there is no operator {login}"))
}

/// The first line of `input`.
fn password(input: impl Read) -> anyhow::Result<String> {
    let mut line = String::new();
    // Not to the end of the input: a person at a terminal ends the line, not the stream.
    BufReader::new(input.take(PASSWORD_BYTES_MAX)).read_line(&mut line).context("the password cannot be read")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("give the password as the first line of the standard input");
    }
    Ok(password.to_owned())
}
