//! `dewpoint image`: the catalogue of disk images, and putting files into it.

use std::path::PathBuf;

use clap::Subcommand;
use dewpoint_proto::names::ImageName;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{
    AddImageRequest, GetImageRequest, GetImageServerRequest, Image, ListImagesRequest, RemoveImageRequest,
};
use serde_json::json;

use super::show_list;
use crate::args::values::ImageArg;
use crate::args::{Global, Limit};
use crate::failure::Failure;
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::target::image_server;
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::upload::{File, upload};
use crate::view::image::{ImageView, show, table};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Upload an image file into the catalogue; one that is there already is not sent again
    Add(Add),
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show all of one image
    Show {
        /// Name or digest
        image: ImageArg,
    },
    /// Remove a name, and the image with its last one; a digest removes the image with all its names
    #[command(visible_alias = "remove")]
    Rm {
        /// Name or digest
        image: ImageArg,
    },
}

/// An image to be added.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// A qcow2 or raw image that stands alone
    #[arg(required_unless_present = "digest")]
    file: Option<PathBuf>,
    /// Give a name to an image whose bytes the coordinator has already
    #[arg(long, value_name = "SHA256", conflicts_with = "file", requires = "name")]
    digest: Option<ImageDigest>,
    /// Its name in the catalogue [default: none, it is known by its digest]
    #[arg(long, value_name = "NAME")]
    name: Option<ImageName>,
}

/// Carries out one command on images.
pub(crate) async fn carry_out(
    command: ImageCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        ImageCommand::Add(add) => self::add(add, global, output).await,
        ImageCommand::Ls { limit } => list(&Fleet::connect(global).await?, limit.get(), output).await,
        ImageCommand::Show { image } => {
            let fleet = Fleet::connect(global).await?;
            let asked = request(GetImageRequest { image: image.to_string() });
            show_one(&fleet.ask(fleet.images().get_image(asked)).await?, output)
        }
        ImageCommand::Rm { image } => {
            let fleet = Fleet::connect(global).await?;
            let asked = request(RemoveImageRequest { image: image.to_string() });
            let bytes_removed = fleet.ask(fleet.images().remove_image(asked)).await?.bytes_removed;
            let what =
                if bytes_removed { "removed with its bytes" } else { "removed; its bytes have other names" };
            let document = json!({ "removed": image.to_string(), "bytes_removed": bytes_removed });
            output.show(&document, |_| format!("{image}: {what}\n"))
        }
    }
}

async fn add(add: Add, global: &Global, output: &mut Output<'_>) -> Result<(), Failure> {
    // Connected first: nobody hashes for a minute to be told that nobody is there.
    let fleet = Fleet::connect(global).await?;
    let digest = match (add.file, add.digest) {
        (Some(path), _) => {
            let file = File::read(path, output).await?;
            let server =
                fleet.ask(fleet.images().get_image_server(request(GetImageServerRequest {}))).await?;
            let server = image_server(&server.url, fleet.plaintext)?;
            upload(&file, &server, output).await?;
            file.digest
        }
        (None, Some(digest)) => digest,
        (None, None) => return Err(Failure::internal("neither a file nor a digest")),
    };
    let name = add.name.map(String::from).unwrap_or_default();
    let asked = request(AddImageRequest { name, digest: digest.to_string() });
    show_one(&fleet.ask(fleet.images().add_image(asked)).await?, output)
}

async fn list(fleet: &Fleet, limit: usize, output: &mut Output<'_>) -> Result<(), Failure> {
    let images = collect(limit, async |page_token| {
        let asked = request(ListImagesRequest { page_size: PAGE, page_token });
        let page = fleet.ask(fleet.images().list_images(asked)).await?;
        Ok(Page { entries: page.images, next: page.next_page_token })
    })
    .await?;
    show_list::<_, ImageView>(output, "images", &images, |images, paint| table(images, Millis::now(), paint))
}

fn show_one(image: &Image, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&ImageView::from(image), |_| show(image))
}
