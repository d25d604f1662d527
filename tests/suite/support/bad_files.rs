//! What can be in the place of a regular file, and disks that hang.

use std::{
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
};

/// Something that is no regular file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NonRegularFile {
    Pipe,
    ToAPipe,
    Directory,
    Socket,
    Zeros,
    Full,
    Dangling,
    Loop,
}

impl NonRegularFile {
    pub(crate) const ALL: [Self; 8] =
        [Self::Pipe, Self::ToAPipe, Self::Directory, Self::Socket, Self::Zeros, Self::Full, Self::Dangling, Self::Loop];

    /// Puts it where a file is, or nothing yet.
    pub(crate) fn put(self, path: &Path) {
        remove(path);
        let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        match self {
            Self::Pipe => pipe(path),
            Self::ToAPipe => {
                let beside = path.with_extension("pipe");
                remove(&beside);
                pipe(&beside);
                symlink(beside, path).unwrap();
            }
            Self::Directory => std::fs::create_dir(path).unwrap(),
            // Its file stays.
            Self::Socket => drop(UnixListener::bind(path).unwrap()),
            Self::Zeros => symlink("/dev/zero", path).unwrap(),
            Self::Full => symlink("/dev/full", path).unwrap(),
            Self::Dangling => symlink("/nonexistent/file", path).unwrap(),
            Self::Loop => symlink(path, path).unwrap(),
        }
    }
}

/// Removes whatever is there.
pub(crate) fn remove(path: &Path) {
    match path.symlink_metadata() {
        Err(_) => {}
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
    }
}

/// The same command, for which this directory is a file system that never responds: it is one of FUSE without
/// a server. `None`, with a notice, where this cannot be had.
pub(crate) fn with_hanging_disk(directory: &Path, command: &Command) -> Option<Command> {
    const MOUNT: &str =
        "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hang \"$0\" && exec \"$@\"";
    std::fs::create_dir_all(directory).unwrap();
    let wrapped = || {
        let mut wrapped = Command::new("unshare");
        wrapped.args(["-rm", "bash", "-c", MOUNT]).arg(directory);
        wrapped
    };
    let can = wrapped().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !super::is_there_or(can, "namespaces or FUSE are not allowed here, so no disk can be made to hang") {
        return None;
    }
    let mut wrapped = wrapped();
    wrapped.arg(command.get_program()).args(command.get_args());
    let path = std::env::var_os("PATH").unwrap_or_default();
    wrapped.env_clear().env("PATH", path).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(wrapped)
}
