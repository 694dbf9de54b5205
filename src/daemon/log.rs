//! Where the daemon's log goes, and how much of it.
//!
//! In the foreground to standard error; in the background to the journal if there is one; to a
//! file where one is named. `FUSEWIRE_LOG` filters as `RUST_LOG` does elsewhere.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::Mutex;

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::{DaemonError, system};
use crate::cli;

/// Changes the level of a running log.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    filter: reload::Handle<EnvFilter, Registry>,
    configured: Level,
}

impl Handle {
    /// Logs everything from DEBUG on, or what was configured again.
    pub(super) fn set_debug(&self, on: bool) {
        let level = if on { Level::DEBUG } else { self.configured };
        // The subscriber lives as long as the process.
        let _ = self.filter.reload(EnvFilter::new(level.as_str()));
    }
}

/// Starts the log that `request` asks for.
pub(super) fn start(request: &cli::Mount) -> Result<Handle, DaemonError> {
    let level = request.log_level;
    let filter = match std::env::var("FUSEWIRE_LOG") {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => filter,
            Err(error) => {
                return Err(DaemonError::LogFilter { text, reason: error.to_string() });
            }
        },
        Err(_) => EnvFilter::new(level.as_str()),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let text = tracing_subscriber::fmt::layer().with_target(false);
    let output: Option<Box<dyn Layer<_> + Send + Sync>> = match &request.log_file {
        Some(path) => {
            let opened = File::options().append(true).create(true).open(path);
            let file =
                opened.map_err(|error| DaemonError::LogFile { path: path.clone(), error })?;
            Some(text.with_ansi(false).with_writer(Mutex::new(file)).boxed())
        }
        None if request.foreground => {
            let colours = io::stderr().is_terminal();
            Some(text.with_ansi(colours).with_writer(io::stderr).boxed())
        }
        // Without a journal there is nobody to tell; `--log-file` names another place.
        None => tracing_journald::layer().ok().map(Layer::boxed),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|error| system("start the log")(io::Error::other(error)))?;
    Ok(Handle { filter: handle, configured: level })
}
