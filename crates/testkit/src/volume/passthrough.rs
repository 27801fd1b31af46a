//! The operations, each one system call on the directory behind.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, linkat, mkdirat,
    mknodat, openat, renameat_with, seek, utimensat,
};

use super::Gate;
use super::handles::{Files, Nodes};

/// For how long the kernel need not ask again, as with the defaults of NFS. It would ask for everything, otherwise.
const TTL: Duration = Duration::from_secs(3);

pub(super) struct Passthrough {
    gate: Arc<Gate>,
    nodes: Nodes,
    files: Files,
}

/// Answers an operation with what an expression comes to: `answer!(self, "read", reply, { … } => |value| reply.done(value))`.
macro_rules! answer {
    ($self:ident, $operation:literal, $reply:ident, $work:expr => |$value:pat_param| $done:expr) => {{
        let work = || -> io::Result<_> { $work };
        match $self.gate.pass($operation).and_then(|()| work().map_err(Errno::from)) {
            Ok($value) => $done,
            Err(errno) => $reply.error(errno),
        }
    }};
}

impl Passthrough {
    pub(super) fn new(behind: &Path, gate: Arc<Gate>) -> io::Result<Self> {
        Ok(Self { gate, nodes: Nodes::new(behind)?, files: Files::default() })
    }

    /// Gives a new entry to whoever asked for it, with the permissions that were asked for, and looks it up.
    fn settle(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: Option<u32>) -> io::Result<FileAttr> {
        let path = self.nodes.child(parent, name)?;
        std::os::unix::fs::lchown(&path, Some(req.uid()), Some(req.gid()))?;
        if let Some(mode) = mode {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))?;
        }
        self.nodes.look_up(parent, name)
    }
}

fn flags_of(flags: i32) -> OFlags {
    // The path leads through `/proc`, whose links have to be followed; appending is the kernel's business.
    (OFlags::from_bits_retain(flags.unsigned_abs()) - OFlags::NOFOLLOW - OFlags::APPEND) | OFlags::CLOEXEC
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: since.subsec_nanos().into() },
            // From before 1970. The crate has counted the fraction backwards, in this direction alone.
            Err(before) => {
                let (seconds, nanoseconds) = (before.duration().as_secs(), before.duration().subsec_nanos());
                Timespec { tv_sec: -seconds.cast_signed(), tv_nsec: nanoseconds.into() }
            }
        },
    }
}

fn sized(data: &[u8], size: u32, reply: ReplyXattr) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(length),
        size if size < length => reply.error(Errno::ERANGE),
        _ => reply.data(data),
    }
}

impl Filesystem for Passthrough {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // As much as a network filesystem moves in one message.
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_background(256);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self, "lookup", reply, self.nodes.look_up(parent, name) => |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.nodes.forget(ino, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(self, "getattr", reply, self.nodes.attributes(ino) => |attr| reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer!(self, "setattr", reply, {
            let path = self.nodes.path(ino)?;
            if uid.is_some() || gid.is_some() {
                chown(&path, uid, gid)?;
            }
            if let Some(mode) = mode {
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))?;
            }
            if let Some(size) = size {
                File::options().write(true).open(&path)?.set_len(size)?;
            }
            if atime.is_some() || mtime.is_some() {
                let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
                utimensat(CWD, &path, &times, AtFlags::empty())?;
            }
            self.nodes.attributes(ino)
        } => |attr| reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        answer!(self, "readlink", reply, {
            // An empty name below what is held open is the link itself.
            let path = self.nodes.path(ino)?;
            let held = std::fs::read_link(&path)?;
            std::fs::read_link(held)
        } => |target| reply.data(target.as_os_str().as_encoded_bytes()));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        answer!(self, "mknod", reply, {
            let kind = rustix::fs::FileType::from_raw_mode(mode);
            mknodat(CWD, self.nodes.child(parent, name)?, kind, Mode::from_raw_mode(mode), rdev.into())?;
            self.settle(req, parent, name, Some(mode & !umask))
        } => |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer!(self, "mkdir", reply, {
            mkdirat(CWD, self.nodes.child(parent, name)?, Mode::from_raw_mode(mode))?;
            self.settle(req, parent, name, Some(mode & !umask))
        } => |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, "unlink", reply, std::fs::remove_file(self.nodes.child(parent, name)?) => |()| reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, "rmdir", reply, std::fs::remove_dir(self.nodes.child(parent, name)?) => |()| reply.ok());
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        answer!(self, "symlink", reply, {
            symlink(target, self.nodes.child(parent, link_name)?)?;
            self.settle(req, parent, link_name, None)
        } => |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer!(self, "rename", reply, {
            let (from, to) = (self.nodes.child(parent, name)?, self.nodes.child(newparent, newname)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            Ok(renameat_with(CWD, from, CWD, to, flags)?)
        } => |()| reply.ok());
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        answer!(self, "link", reply, {
            linkat(CWD, self.nodes.path(ino)?, CWD, self.nodes.child(newparent, newname)?, AtFlags::SYMLINK_FOLLOW)?;
            self.nodes.look_up(newparent, newname)
        } => |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(self, "open", reply, {
            let file = openat(CWD, self.nodes.path(ino)?, flags_of(flags.0), Mode::empty())?;
            Ok(self.files.add(file.into()))
        } => |handle| reply.opened(FileHandle(handle), FopenFlags::empty()));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        answer!(self, "create", reply, {
            let flags = flags_of(flags) | OFlags::CREATE | OFlags::NOFOLLOW;
            let file = openat(CWD, self.nodes.child(parent, name)?, flags, Mode::from_raw_mode(mode))?;
            let attr = self.settle(req, parent, name, Some(mode & !umask))?;
            Ok((attr, self.files.add(file.into())))
        } => |(attr, handle)| reply.created(&TTL, &attr, Generation(0), FileHandle(handle), FopenFlags::empty()));
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(self, "read", reply, {
            let mut data = vec![0; size as usize];
            let length = self.files.get(fh.0)?.read_at(&mut data, offset)?;
            data.truncate(length);
            Ok(data)
        } => |data| reply.data(&data));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(self, "write", reply, self.files.get(fh.0)?.write_at(data, offset)
            => |written| reply.written(u32::try_from(written).unwrap_or(u32::MAX)));
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        answer!(self, "flush", reply, Ok(()) => |()| reply.ok());
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(fh.0);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(self, "fsync", reply, self.files.get(fh.0)?.sync_all() => |()| reply.ok());
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        answer!(self, "opendir", reply, Ok(self.files.add(File::open(self.nodes.path(ino)?)?))
            => |handle| reply.opened(FileHandle(handle), FopenFlags::empty()));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        answer!(self, "readdir", reply, {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(self.nodes.path(ino)?)? {
                let entry = entry?;
                let number = std::os::unix::fs::DirEntryExt::ino(&entry);
                let kind = FileType::from_std(entry.file_type()?).ok_or_else(|| io::Error::other("of no known kind"))?;
                entries.push((number, kind, entry.file_name()));
            }
            // By name, so that an offset means the same at the next call.
            entries.sort_by(|one, other| one.2.cmp(&other.2));
            Ok(entries)
        } => |entries| {
            let dots = [(ino.0, FileType::Directory, ".".into()), (ino.0, FileType::Directory, "..".into())];
            for (number, (inode, kind, name)) in (1_u64..).zip(dots.into_iter().chain(entries)) {
                if number > offset && reply.add(INodeNo(inode), number, kind, &name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.files.remove(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(self, "fsyncdir", reply, self.files.get(fh.0)?.sync_all() => |()| reply.ok());
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        answer!(self, "statfs", reply, Ok(rustix::fs::statvfs(self.nodes.path(ino)?)?) => |room| {
            let narrow = |number: u64| u32::try_from(number).unwrap_or(4096);
            reply.statfs(
                room.f_blocks, room.f_bfree, room.f_bavail, room.f_files, room.f_ffree,
                narrow(room.f_bsize), narrow(room.f_namemax), narrow(room.f_frsize),
            );
        });
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        answer!(self, "setxattr", reply, {
            let flags = XattrFlags::from_bits_retain(flags.unsigned_abs());
            Ok(rustix::fs::setxattr(self.nodes.path(ino)?, name, value, flags)?)
        } => |()| reply.ok());
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(self, "getxattr", reply, {
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::getxattr(self.nodes.path(ino)?, name, &mut value[..])?;
            value.truncate(length);
            Ok(value)
        } => |value| sized(&value, size, reply));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(self, "listxattr", reply, {
            let mut names = vec![0; 64 * 1024];
            let length = rustix::fs::listxattr(self.nodes.path(ino)?, &mut names[..])?;
            names.truncate(length);
            Ok(names)
        } => |names| sized(&names, size, reply));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, "removexattr", reply, Ok(rustix::fs::removexattr(self.nodes.path(ino)?, name)?) => |()| reply.ok());
    }

    fn lseek(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        answer!(self, "lseek", reply, {
            let file = self.files.get(fh.0)?;
            let at = offset.unsigned_abs();
            let position = match whence {
                3 => seek(file.as_fd(), SeekFrom::Data(at))?,
                4 => seek(file.as_fd(), SeekFrom::Hole(at))?,
                2 => file.metadata()?.size(),
                _ => at,
            };
            Ok(position)
        } => |position| reply.offset(position.cast_signed()));
    }
}
