//! A daemon's Unix socket: bound once, for its user and group alone (mode 0660).

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};
use tokio::net::UnixListener;

/// Binds the socket. The caller holds its data folder's lock, so a socket that is there is a dead daemon's; any other file
/// is left alone.
///
/// # Errors
/// `STORAGE_ERROR`, naming the path.
pub fn bind(path: &Path) -> Result<UnixListener, Cause> {
    let wrong = |error: std::io::Error| {
        Cause::new(Reason::StorageError, format!("the socket {} cannot be made: {error}", path.display()))
            .advise("check `socket` in the configuration, and that its folder exists and can be written")
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path).map_err(wrong)?;
        }
        Ok(_) => return Err(wrong(std::io::Error::other("another file is there"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(wrong(error)),
    }
    let listener = UnixListener::bind(path).map_err(wrong)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(wrong)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_daemons_socket_gives_way_and_another_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("a.sock");
        drop(bind(&path).unwrap());
        let _bound = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let cause = bind(&file).unwrap_err();
        assert!(cause.text.contains("another file is there"), "{cause:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
