//! Who owns a socket file: taking a path without displacing anybody, and giving it back.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::Domain;

use super::address::Name;
use crate::address::AddressError;
use crate::contract::Purpose;
use crate::socket::{ListenerSocket, StreamSocket};
use crate::sys::{self, FolderLock, FolderLocking};

/// A socket file that this process has made. Dropping it removes the file if it is still the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    folder: Option<FreshFolder>,
    made_in: u32,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Binds `path` with what `new` makes, removing a dead socket file that is in the way, and listens.
pub(super) fn bind_file(
    path: &str,
    new: impl Fn() -> io::Result<ListenerSocket>,
    listen: impl FnOnce(&ListenerSocket) -> io::Result<()>,
) -> io::Result<(ListenerSocket, SocketFile)> {
    // Held until we listen: a file that is bound but not listened on looks dead to others.
    let turn = FolderLock::acquire(folder_of(path), PATIENCE)?;
    bind_in_turn(path, &turn, new, listen)
}

fn bind_in_turn(
    path: &str,
    turn: &FolderLocking,
    new: impl Fn() -> io::Result<ListenerSocket>,
    listen: impl FnOnce(&ListenerSocket) -> io::Result<()>,
) -> io::Result<(ListenerSocket, SocketFile)> {
    sys::watch_forks()?;
    // A relative path must be found again after a change of the working directory.
    let full = std::path::absolute(path)?;
    let socket = match new() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(path, turn)?;
            new()?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(without_folder(path, error)),
        other => other?,
    };
    let made = SocketFile {
        identity: Identity::of(&fs::symlink_metadata(path)?),
        path: full,
        folder: None,
        made_in: sys::fork_generation(),
    };
    listen(&socket)?;
    // Before it was listened on it looked dead, and a binder that cannot wait for its turn may have replaced it.
    if Identity::at(path) != Some(made.identity) {
        return Err(in_use(path, REPLACED));
    }
    Ok((socket, made))
}

/// Removes what is at `path` if it is a socket that nobody listens on.
fn remove_dead(path: &str, turn: &FolderLocking) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        // It has gone by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if let Some(what) = kind_beside_socket(&found) {
        let message = format!("cannot bind {path:?}: there is {what} that is not a socket; it is left alone");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match probe(path) {
        Found::Dead => {}
        Found::Gone => return Ok(()),
        Found::InUse => return Err(in_use(path, "somebody listens there")),
        Found::OtherType => {
            let message = format!("cannot bind {path:?}: there is {OTHER_TYPE}; it is left alone");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Found::Unknown(error) => {
            return Err(in_use(path, &format!("there is a socket, and whether it is dead is unknown: {error}")));
        }
    }
    match turn {
        // Where the folder cannot be locked, the probe and the look at what is taken away are all there is.
        FolderLocking::Locked(_) | FolderLocking::Impossible => {}
        FolderLocking::Busy => {
            return Err(in_use(path, "there is a dead socket, but another process holds the lock of the folder"));
        }
    }
    displace(path, &found)
}

/// Removes the file at `path` if it is the dead one that was found there. Another binder may put its own in its place at
/// any moment, so that the file is looked at under a name that nobody else uses, and put back if it is another one.
fn displace(path: &str, dead: &Metadata) -> io::Result<()> {
    let aside = folder_of(path).join(format!("{FRESH}{:016x}", random()));
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    let taken = fs::symlink_metadata(&aside)?;
    // The number of a file that has gone may be used again; the time at which it was made is not.
    let made = |file: &Metadata| (Identity::of(file), file.mtime(), file.mtime_nsec());
    if made(&taken) == made(dead) {
        return fs::remove_file(&aside);
    }
    let put_back = sys::rename_if_free(&aside, Path::new(path));
    if put_back.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        // A third binder has the path now.
        fs::remove_file(&aside)?;
    }
    Err(in_use(path, REPLACED))
}

enum Found {
    /// Nobody listens.
    Dead,
    /// There is nothing any more.
    Gone,
    InUse,
    /// A socket that is in use, and no stream socket.
    OtherType,
    Unknown(io::Error),
}

/// Finds out by connecting whether somebody listens. A live listener sees a connection that closes at once.
fn probe(path: &str) -> Found {
    let connected =
        Name::Path(path).socket_address().and_then(|target| StreamSocket::connect(Domain::UNIX, &target, |_| Ok(())));
    match connected {
        Ok(_) => Found::InUse,
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Found::Dead,
            Some(libc::ENOENT) => Found::Gone,
            // A full backlog.
            Some(libc::EAGAIN) => Found::InUse,
            Some(libc::EPROTOTYPE) => Found::OtherType,
            Some(_) | None => Found::Unknown(error),
        },
    }
}

impl SocketFile {
    /// Lets the folder be removed with the file.
    pub(super) fn keep_folder(&mut self, folder: FreshFolder) {
        self.folder = Some(folder);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let in_a_child = self.made_in != sys::fork_generation();
        if in_a_child {
            return;
        }
        if Identity::at(&self.path) == Some(self.identity) {
            // It may have gone in this moment, and nobody could be told of anything else.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }

    fn at(path: impl AsRef<Path>) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|file| Self::of(&file))
    }
}

/// A folder that this process has made for one socket. Dropping it removes it if it is empty.
#[derive(Debug)]
pub(super) struct FreshFolder {
    path: PathBuf,
    made_in: u32,
}

impl FreshFolder {
    /// Makes a folder in `base` with a name nobody can guess, which only this user may enter.
    pub(super) fn create(base: &Path) -> io::Result<Self> {
        sys::watch_forks()?;
        for _ in 0..MAX_NAMES_TRIED {
            let path = base.join(format!("{FRESH}{:016x}", random()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path: std::path::absolute(path)?, made_in: sys::fork_generation() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let message = format!("no folder can be made in {base:?} for \"*\" (see TMPDIR): {error}");
                    return Err(io::Error::new(error.kind(), message));
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("no free name for a folder in {base:?}")))
    }

    /// The folder of a path that `*` has become before, made anew: it went with the listener, and its owner may want
    /// the same path again. `None` for any other path, and where the folder is there.
    ///
    /// # Errors
    ///
    /// If something is there by that name that is no such folder: in a place where everybody may make one, whoever did
    /// could put another socket in the place of ours.
    pub(super) fn again(path: &str) -> io::Result<Option<Self>> {
        let path = Path::new(path);
        let folder = path.parent().filter(|_| path.file_name().is_some_and(|name| name == SOCKET));
        let name = folder.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix(FRESH).unwrap_or_default();
        let is_ours = number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit());
        let Some(folder) = folder.filter(|_| is_ours) else { return Ok(None) };
        sys::watch_forks()?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => Ok(Some(Self { path: std::path::absolute(folder)?, made_in: sys::fork_generation() })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(folder)?;
                if found.is_dir() && found.uid() == sys::user() && found.mode() & 0o777 == 0o700 {
                    return Ok(None);
                }
                let message = format!("cannot bind {path:?}: {folder:?} is no folder that this user alone may enter");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
            }
            // Binding says what is wrong, if anything is.
            Err(_) => Ok(None),
        }
    }

    /// Where the socket goes.
    ///
    /// # Errors
    ///
    /// If the folder for temporary files has too long a name, or one that is no text.
    pub(super) fn socket_path(&self) -> io::Result<String> {
        let path = self.path.join(SOCKET);
        let Some(path) = path.to_str() else {
            return Err(
                AddressError::new("*", format!("the path {path:?} is not UTF-8; set TMPDIR to one that is")).into()
            );
        };
        Name::parse(path, Purpose::Bind)?;
        Ok(path.to_owned())
    }
}

impl Drop for FreshFolder {
    fn drop(&mut self) {
        if self.made_in == sys::fork_generation() {
            // Fails if somebody has put something else in, which is theirs to remove.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn folder_of(path: &str) -> &Path {
    match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// What the system found missing, if that is the folder of a path.
fn without_folder(path: &str, error: io::Error) -> io::Error {
    let folder = folder_of(path);
    match folder.try_exists() {
        Ok(false) if folder.starts_with("~") => {
            let text = format!(
                "there is no folder {folder:?}; only a shell takes \"~\" for the home folder, so write that out"
            );
            io::Error::new(error.kind(), text)
        }
        Ok(false) => io::Error::new(error.kind(), format!("there is no folder {folder:?}; make it first")),
        Ok(true) | Err(_) => error,
    }
}

/// What the system found refused, if nobody can listen there: the file is no socket, or one of another type. Of an
/// abstract name there is no file.
pub(super) fn without_socket(path: &str, error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EPROTOTYPE) {
        return io::Error::new(error.kind(), format!("there is {OTHER_TYPE}"));
    }
    let found = fs::metadata(path).ok().filter(|_| error.kind() == io::ErrorKind::ConnectionRefused);
    match found.and_then(|found| kind_beside_socket(&found)) {
        Some(what) => io::Error::new(error.kind(), format!("there is {what} that is not a socket")),
        None => error,
    }
}

/// Why a path is in use, if another binder has come in between.
const REPLACED: &str = "another binder has just replaced it";

/// What is there, if a socket is that no stream leads to.
const OTHER_TYPE: &str = "a socket that is not a stream socket, such as one for datagrams";

/// What is there, if it is no socket.
fn kind_beside_socket(found: &Metadata) -> Option<&'static str> {
    match found.file_type() {
        kind if kind.is_socket() => None,
        kind if kind.is_dir() => Some("a directory"),
        kind if kind.is_symlink() => Some("a symbolic link"),
        _ => Some("a file"),
    }
}

fn in_use(path: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, format!("cannot bind {path:?}: {why}"))
}

fn random() -> u64 {
    u128::from_ne_bytes(sys::random_octets()) as u64
}

/// Others hold the lock for the time of a few system calls.
const PATIENCE: Duration = Duration::from_millis(100);

const MAX_NAMES_TRIED: u32 = 16;

/// How the names of fresh folders begin, and what the socket in them is called.
const FRESH: &str = "wiremesh-";
const SOCKET: &str = "socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_is_private_and_goes_with_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let (one, two) = (FreshFolder::create(base.path()).unwrap(), FreshFolder::create(base.path()).unwrap());
        assert_ne!(one.path, two.path);
        let path = one.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        drop(one);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_is_used_again_only_if_this_user_alone_may_enter_it() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join(format!("{FRESH}{:016x}", 7));
        let path = folder.join(SOCKET).to_str().unwrap().to_owned();
        let refused = || {
            let error = FreshFolder::again(&path).expect_err("it is not ours");
            assert!(error.to_string().contains("this user alone may enter"), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        };
        let real = base.path().join("somebody's");
        DirBuilder::new().mode(0o700).create(&real).unwrap();
        symlink(&real, &folder).unwrap();
        refused();
        fs::remove_file(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        refused();
        fs::remove_file(&folder).unwrap();
        let made = FreshFolder::again(&path).unwrap().expect("it is made");
        assert!(FreshFolder::again(&path).unwrap().is_none(), "it is there");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        refused();
        drop(made);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_for_temporary_files_with_too_long_a_name_is_an_error_and_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        let error = FreshFolder::create(&long).unwrap().socket_path().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("at most"), "{error}");
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_for_temporary_files_that_is_not_there_is_an_error_that_says_where_to_look() {
        let error = FreshFolder::create(Path::new("/no/such/folder")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("TMPDIR") && error.to_string().contains("/no/such"), "{error}");
    }

    /// Binds where the folder cannot be locked; `meanwhile` happens when the path is bound and not listened on.
    fn bind_without_a_turn(path: &str, meanwhile: impl FnOnce()) -> io::Result<(ListenerSocket, SocketFile)> {
        let new = || ListenerSocket::bind(Domain::UNIX, &Name::Path(path).socket_address()?, |_| Ok(()));
        let listen = |socket: &ListenerSocket| {
            meanwhile();
            socket.listen(8)
        };
        bind_in_turn(path, &FolderLocking::Impossible, new, listen)
    }

    #[test]
    fn where_the_folder_cannot_be_locked_a_binder_whose_file_was_taken_for_dead_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET).to_str().unwrap().to_owned();
        let mut other = None;
        let error = bind_without_a_turn(&path, || other = bind_without_a_turn(&path, || ()).ok()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(matches!(probe(&path), Found::InUse), "the other one listens");
        drop(other.expect("it has replaced what looked dead"));
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn a_listener_that_has_come_in_the_place_of_a_dead_file_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET).to_str().unwrap().to_owned();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let dead = fs::symlink_metadata(&path).unwrap();
        let live = bind_without_a_turn(&path, || ()).unwrap();
        assert_eq!(displace(&path, &dead).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(matches!(probe(&path), Found::InUse), "it is there");
        drop(live);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn binders_of_a_folder_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path(), Duration::ZERO).unwrap();
        assert!(matches!(first, FolderLocking::Locked(_)));
        assert!(matches!(FolderLock::acquire(folder.path(), Duration::from_millis(2)).unwrap(), FolderLocking::Busy));
        drop(first);
        assert!(matches!(FolderLock::acquire(folder.path(), Duration::ZERO).unwrap(), FolderLocking::Locked(_)));
        let nowhere = folder.path().join("nowhere");
        assert!(matches!(FolderLock::acquire(&nowhere, Duration::ZERO).unwrap(), FolderLocking::Impossible));
    }
}
