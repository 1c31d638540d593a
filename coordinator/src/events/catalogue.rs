//! Images and networks.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::names::NetworkName;

use super::Events;
use crate::store::causes::{no_image, no_network};
use crate::store::{
    ImageAddition, ImageRecord, ImageRemoved, ImageSelector, NetworkRecord, NetworkSpec, Page, Paged,
};

impl Events {
    /// Puts an image, whose file is stored and checked, into the catalogue.
    ///
    /// # Errors
    /// `IMAGE_NAME_TAKEN`.
    pub async fn add_image(&self, image: ImageAddition) -> Result<ImageRecord, Cause> {
        self.inner.store.add_image(image).await?
    }

    /// One image.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`.
    pub async fn image(&self, image: ImageSelector) -> Result<ImageRecord, Cause> {
        let found = self.inner.store.image(image.clone()).await?;
        found.ok_or_else(|| no_image(&image))
    }

    /// By digest.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn images(&self, page: Page) -> Result<Paged<ImageRecord>, Cause> {
        Ok(self.inner.store.images(page).await?)
    }

    /// Removes a tag (and with the last one the image), or an image with its tags.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `IMAGE_IN_USE`.
    pub async fn remove_image(&self, image: ImageSelector) -> Result<ImageRemoved, Cause> {
        self.inner.store.remove_image(image).await?
    }

    /// Adds a network; the same one again changes nothing.
    ///
    /// # Errors
    /// `NETWORK_EXISTS`.
    pub async fn add_network(&self, network: NetworkSpec) -> Result<NetworkRecord, Cause> {
        self.inner.store.add_network(network).await?
    }

    /// One network.
    ///
    /// # Errors
    /// `NETWORK_NOT_FOUND`.
    pub async fn network(&self, name: &NetworkName) -> Result<NetworkRecord, Cause> {
        self.inner.store.network(name).await?.ok_or_else(|| no_network(name))
    }

    /// By name.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn networks(&self, page: Page) -> Result<Paged<NetworkRecord>, Cause> {
        Ok(self.inner.store.networks(page).await?)
    }

    /// Removes a network that no VM uses.
    ///
    /// # Errors
    /// `NETWORK_NOT_FOUND`, `NETWORK_IN_USE`.
    pub async fn remove_network(&self, name: NetworkName) -> Result<(), Cause> {
        self.inner.store.remove_network(name.clone()).await??;
        self.inner.pools().forget(&name);
        Ok(())
    }
}
