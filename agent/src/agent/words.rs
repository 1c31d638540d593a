//! The coordinator's standing words for the executor: held or not, and where the image server is.

use tokio::sync::watch;

use crate::execute::plan::Server;
use crate::link::LinkState;

/// What the link heard last, as the executor takes it.
pub(super) struct Words {
    link: Option<watch::Receiver<LinkState>>,
    server: watch::Sender<Server>,
    hold: watch::Sender<bool>,
}

impl Words {
    /// `held`: as the journal has it from the last session.
    pub(super) fn new(link: Option<watch::Receiver<LinkState>>, held: bool) -> Self {
        let server = if link.is_some() { Server::Unknown } else { Server::None };
        Self { link, server: watch::Sender::new(server), hold: watch::Sender::new(held) }
    }

    pub(super) fn server(&self) -> watch::Receiver<Server> {
        self.server.subscribe()
    }

    pub(super) fn hold(&self) -> watch::Receiver<bool> {
        self.hold.subscribe()
    }

    /// Passes on what the link hears, for as long as there is one.
    pub(super) async fn pass_on(self) {
        let Some(mut link) = self.link else { return std::future::pending().await };
        loop {
            let state = link.borrow_and_update().clone();
            self.hold.send_if_modified(|hold| std::mem::replace(hold, state.hold) != state.hold);
            if let Some(server) = state.images {
                let server = Server::At(server);
                self.server.send_if_modified(|known| {
                    let is_news = *known != server;
                    *known = server;
                    is_news
                });
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    }
}
