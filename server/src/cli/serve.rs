//! `tillward serve`: runs until it is told to stop.

use crate::app::Server;
use crate::clock::Clock;
use crate::config::Config;
use crate::{observe, operators};

/// Runs the server; SIGINT or SIGTERM stop it: running requests may finish, then it ends.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config, clock: Clock) -> anyhow::Result<()> {
    observe::start();
    actix_web::rt::System::new().block_on(async {
        let server = Server::start(config, clock.clone()).await?;
        println!("listening on {}", server.url);
        if let Some(token) = operators::bootstrap(&server.state.db, clock.now()).await? {
            println!("first start: open {}/setup and enter this one-time token: {token}", server.url);
        }
        let handle = server.handle();
        actix_web::rt::spawn(async move {
            stop_signal().await;
            tracing::info!("stopping");
            handle.stop(true).await;
        });
        server.run().await
    })
}

/// Resolves at SIGINT or SIGTERM.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            // Without a handler the system's default ends the process.
            std::future::pending::<()>().await;
        }
    }
}
