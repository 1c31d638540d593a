//! `Images`: the catalogue. Files come before rows, and go after them.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::names::ImageName;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{self, images_server::Images};
use tonic::{Request, Response, Status};

use super::Api;
use crate::events::request::ImageSelector;
use crate::store::{ImageAddition, ImageRecord, ImageRemoved, Page};

#[tonic::async_trait]
impl Images for Api {
    async fn get_image_server(
        &self,
        _: Request<fleet::GetImageServerRequest>,
    ) -> Result<Response<fleet::GetImageServerResponse>, Status> {
        Ok(Response::new(fleet::GetImageServerResponse { url: self.images_url.clone() }))
    }

    async fn add_image(
        &self,
        request: Request<fleet::AddImageRequest>,
    ) -> Result<Response<fleet::Image>, Status> {
        self.answer("AddImage", async {
            let request = request.into_inner();
            let digest: ImageDigest = request.digest.parse()?;
            let name: Option<ImageName> = match request.name.as_str() {
                "" => None,
                name => Some(name.parse()?),
            };
            self.add(digest, name).await.map(to_wire)
        })
        .await
    }

    async fn get_image(
        &self,
        request: Request<fleet::GetImageRequest>,
    ) -> Result<Response<fleet::Image>, Status> {
        self.answer("GetImage", async {
            let image: ImageSelector = request.into_inner().image.parse()?;
            self.events.image(image).await.map(to_wire)
        })
        .await
    }

    async fn list_images(
        &self,
        request: Request<fleet::ListImagesRequest>,
    ) -> Result<Response<fleet::ListImagesResponse>, Status> {
        self.answer("ListImages", async {
            let request = request.into_inner();
            let images = self.events.images(Page::parse(request.page_size, &request.page_token)?).await?;
            Ok(fleet::ListImagesResponse {
                images: images.items.into_iter().map(to_wire).collect(),
                next_page_token: images.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<fleet::RemoveImageRequest>,
    ) -> Result<Response<fleet::RemoveImageResponse>, Status> {
        self.answer("RemoveImage", async {
            let image: ImageSelector = request.into_inner().image.parse()?;
            let api = self.clone();
            // On a task of its own: a caller that goes away does not leave bytes behind.
            let removed = tokio::spawn(async move { api.remove(image).await }).await;
            let bytes_removed = removed
                .map_err(|error| Cause::new(Reason::Internal, format!("the removal died: {error}")))??;
            Ok(fleet::RemoveImageResponse { bytes_removed })
        })
        .await
    }
}

impl Api {
    async fn add(&self, digest: ImageDigest, name: Option<ImageName>) -> Result<ImageRecord, Cause> {
        let _alone = self.images.catalogue().await;
        let found = self.images.find(digest).await?.ok_or_else(|| {
            Cause::new(Reason::ImageNotFound, format!("no file of image {digest} was uploaded"))
                .advise(format!("upload it first: PUT {}/images/{digest}", self.images_url))
        })?;
        self.events
            .add_image(ImageAddition {
                digest,
                name,
                size_bytes: found.size_bytes,
                virtual_size_bytes: found.virtual_size_bytes,
                format: found.format.as_str().to_owned(),
                at: Millis::now(),
            })
            .await
    }

    /// Rows first, then bytes; true when bytes went. A file without a row, left by a crash in between, goes by digest.
    async fn remove(&self, image: ImageSelector) -> Result<bool, Cause> {
        let _alone = self.images.catalogue().await;
        let digest = match self.events.remove_image(image.clone()).await {
            Ok(ImageRemoved::Name) => return Ok(false),
            Ok(ImageRemoved::Image(digest)) => digest,
            Err(cause) => match image {
                ImageSelector::Digest(digest) if cause.reason == Reason::ImageNotFound => {
                    return if self.images.remove(digest).await? { Ok(true) } else { Err(cause) };
                }
                ImageSelector::Digest(_) | ImageSelector::Name(_) => return Err(cause),
            },
        };
        self.images.remove(digest).await
    }
}

fn to_wire(image: ImageRecord) -> fleet::Image {
    let (event, vm) = image.made_by.unzip();
    fleet::Image {
        digest: image.digest.to_string(),
        names: image.names.into_iter().map(Into::into).collect(),
        size_bytes: image.size_bytes,
        virtual_size_bytes: image.virtual_size_bytes,
        format: image.format,
        added_at_ms: image.added_at.0,
        made_by_event_id: super::text(event),
        made_from_vm_id: super::text(vm),
    }
}
