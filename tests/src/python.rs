//! Python with the packages of a foreign client or server, from PyPI, kept between runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::programs::run;

/// A Python in `folder` (made when missing) that has `packages` and can import `modules`; `None`, and said as `what`,
/// where they cannot be installed.
///
/// # Panics
/// When the packages are installed and Python does not find them.
pub fn python(what: &str, folder: &Path, packages: &[&str], modules: &str) -> Option<PathBuf> {
    let python = folder.join("bin").join("python");
    let is_ready = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {modules}")]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if is_ready(&python) {
        return Some(python);
    }
    if Command::new("python3").arg("--version").output().is_err() {
        crate::skip(what, "python3 is not installed");
        return None;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    let made = run(venv, Duration::from_secs(120));
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        crate::skip(what, &format!("python3 -m venv failed (Debian: python3-venv): {}", said.trim()));
        return None;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(packages);
    let installed = run(pip, Duration::from_secs(300));
    if !installed.status.success() {
        let said = String::from_utf8_lossy(&installed.stderr).into_owned();
        crate::skip(what, &format!("pip cannot install {}: {}", packages.join(" "), said.trim()));
        return None;
    }
    assert!(is_ready(&python), "pip installed the packages and Python does not find them");
    Some(python)
}
