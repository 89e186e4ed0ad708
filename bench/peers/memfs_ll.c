/*
 * The yardstick in C: a file system in memory on libfuse 3's low-level interface, as fast as that
 * library goes. Threads serve requests in parallel; the kernel's writeback cache, requests of 1 MiB,
 * parallel look-ups, readdirplus and long time-outs are on; reads reply straight from the memory of
 * the file. It does what the benchmarks ask for: no extended attributes, no locks, no quota.
 *
 * One lock holds the tree (names, links), one for each file its bytes; the tree's is always taken first.
 *
 *   gcc -O2 -o memfs_ll memfs_ll.c $(pkg-config --cflags --libs fuse3) -lpthread
 *   memfs_ll -f -o allow_other,default_permissions DIR
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_SIZE (128 * 1024)
#define REQUEST_SIZE_MAX (1024 * 1024)
#define IOV_COUNT (REQUEST_SIZE_MAX / CHUNK_SIZE + 2)
#define TIMEOUT_S 86400.0
#define NAME_SIZE_MAX 255
#define FILE_SIZE_MAX (1LL << 40)
#define FIRST_SIZE_MIN 4096
#define TABLE_SIZE_MIN 1024

struct inode;

struct dentry {
	struct dentry *hash_next;
	struct dentry *previous, *next; /* in the directory */
	struct inode *parent, *inode;
	uint32_t hash;
	char name[];
};

struct inode {
	pthread_rwlock_t lock; /* of chunks and attributes */
	struct stat attr;
	uint64_t lookups;
	struct inode *parent; /* of a directory */
	struct dentry *first, *last; /* of a directory, oldest first */
	uint64_t entries;
	char **chunks; /* of a file; NULL is a hole */
	size_t chunk_count;
	size_t first_size; /* bytes of the first chunk that are there: small files stay small */
	char *target; /* of a symbolic link */
};

struct listing {
	size_t count;
	char **names;
};

static pthread_rwlock_t tree = PTHREAD_RWLOCK_INITIALIZER;
static struct dentry **table;
static size_t table_size, dentry_count;
static ino_t last_ino;
static struct inode *root;
static const char zeroes[CHUNK_SIZE];

static void *allocate(size_t size)
{
	void *p = calloc(1, size);

	if (p == NULL) {
		perror("memfs_ll");
		abort();
	}
	return p;
}

static struct inode *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root : (struct inode *)(uintptr_t)ino;
}

static fuse_ino_t ino_of(struct inode *inode)
{
	return inode == root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)inode;
}

static struct timespec now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return t;
}

static void touch(struct inode *inode, bool contents)
{
	inode->attr.st_ctim = now();
	if (contents)
		inode->attr.st_mtim = inode->attr.st_ctim;
}

/* --- the tree; callers hold its lock ------------------------------------------------------- */

static uint32_t hash_of(const struct inode *parent, const char *name)
{
	uint32_t h = 2166136261u ^ (uint32_t)((uintptr_t)parent >> 6);

	for (; *name != 0; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h;
}

static struct dentry *find(struct inode *parent, const char *name)
{
	uint32_t hash = hash_of(parent, name);
	struct dentry *d;

	for (d = table[hash & (table_size - 1)]; d != NULL; d = d->hash_next)
		if (d->hash == hash && d->parent == parent && strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

static void grow_table(void)
{
	size_t size = table_size == 0 ? TABLE_SIZE_MIN : table_size * 2;
	struct dentry **grown = allocate(size * sizeof(*grown));

	for (size_t i = 0; i < table_size; i++) {
		for (struct dentry *d = table[i], *next; d != NULL; d = next) {
			next = d->hash_next;
			d->hash_next = grown[d->hash & (size - 1)];
			grown[d->hash & (size - 1)] = d;
		}
	}
	free(table);
	table = grown;
	table_size = size;
}

static void add_name(struct inode *parent, const char *name, struct inode *inode)
{
	size_t length = strlen(name);
	struct dentry *d = allocate(sizeof(*d) + length + 1);

	memcpy(d->name, name, length + 1);
	d->hash = hash_of(parent, name);
	d->parent = parent;
	d->inode = inode;
	if (dentry_count++ >= table_size)
		grow_table();
	d->hash_next = table[d->hash & (table_size - 1)];
	table[d->hash & (table_size - 1)] = d;
	d->previous = parent->last;
	*(parent->last == NULL ? &parent->first : &parent->last->next) = d;
	parent->last = d;
	parent->entries++;
	if (S_ISDIR(inode->attr.st_mode)) {
		inode->parent = parent;
		parent->attr.st_nlink++;
	}
	touch(parent, true);
}

static void remove_name(struct dentry *d)
{
	struct dentry **at = &table[d->hash & (table_size - 1)];
	struct inode *parent = d->parent;

	while (*at != d)
		at = &(*at)->hash_next;
	*at = d->hash_next;
	*(d->previous == NULL ? &parent->first : &d->previous->next) = d->next;
	*(d->next == NULL ? &parent->last : &d->next->previous) = d->previous;
	parent->entries--;
	dentry_count--;
	if (S_ISDIR(d->inode->attr.st_mode))
		parent->attr.st_nlink--;
	touch(parent, true);
	free(d);
}

static struct inode *new_inode(const struct fuse_ctx *caller, struct inode *parent, mode_t mode, dev_t rdev)
{
	struct inode *inode = allocate(sizeof(*inode));

	pthread_rwlock_init(&inode->lock, NULL);
	inode->attr.st_ino = ++last_ino;
	inode->attr.st_mode = mode;
	inode->attr.st_nlink = S_ISDIR(mode) ? 2 : 1;
	inode->attr.st_uid = caller->uid;
	inode->attr.st_gid = caller->gid;
	inode->attr.st_rdev = rdev;
	inode->attr.st_blksize = 4096;
	inode->attr.st_atim = now();
	touch(inode, true);
	if (parent != NULL && (parent->attr.st_mode & S_ISGID) != 0) {
		inode->attr.st_gid = parent->attr.st_gid;
		if (S_ISDIR(mode))
			inode->attr.st_mode |= S_ISGID;
	}
	return inode;
}

static void cut(struct inode *inode, off_t size);

static void end_if_unused(struct inode *inode)
{
	if (inode == root || inode->lookups > 0 || inode->attr.st_nlink > 0)
		return;
	cut(inode, 0);
	free(inode->chunks);
	free(inode->target);
	pthread_rwlock_destroy(&inode->lock);
	free(inode);
}

/* Takes a link away; a directory that is removed loses both of its own. */
static void drop_link(struct inode *inode)
{
	inode->attr.st_nlink -= S_ISDIR(inode->attr.st_mode) ? 2 : 1;
	touch(inode, false);
	end_if_unused(inode);
}

static void fill_entry(struct inode *inode, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = ino_of(inode);
	e->attr = inode->attr;
	e->attr_timeout = TIMEOUT_S;
	e->entry_timeout = TIMEOUT_S;
}

static void reply_new(fuse_req_t req, struct inode *inode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	inode->lookups++;
	fill_entry(inode, &e);
	pthread_rwlock_unlock(&tree);
	if (fi == NULL) {
		fuse_reply_entry(req, &e);
	} else {
		fi->keep_cache = 1;
		fuse_reply_create(req, &e, fi);
	}
}

/* Takes the tree's lock, and keeps it when it returns 0: the name can be made. */
static int begin_make(fuse_ino_t parent, const char *name)
{
	if (strlen(name) > NAME_SIZE_MAX)
		return ENAMETOOLONG;
	pthread_rwlock_wrlock(&tree);
	int error = node_of(parent)->attr.st_nlink == 0 ? ENOENT : find(node_of(parent), name) != NULL ? EEXIST : 0;
	if (error != 0)
		pthread_rwlock_unlock(&tree);
	return error;
}

/* --- names --------------------------------------------------------------------------------- */

static void op_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	conn->want |= conn->capable & (FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
				       FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				       FUSE_CAP_ATOMIC_O_TRUNC);
	conn->max_write = REQUEST_SIZE_MAX;
	conn->max_read = 0;
	conn->max_readahead = REQUEST_SIZE_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	struct dentry *d;

	pthread_rwlock_rdlock(&tree);
	d = find(node_of(parent), name);
	if (d == NULL) {
		pthread_rwlock_unlock(&tree);
		/* A nodeid of 0 lets the kernel keep that there is none. */
		memset(&e, 0, sizeof(e));
		e.entry_timeout = TIMEOUT_S;
	} else {
		__atomic_add_fetch(&d->inode->lookups, 1, __ATOMIC_RELAXED);
		fill_entry(d->inode, &e);
		pthread_rwlock_unlock(&tree);
	}
	fuse_reply_entry(req, &e);
}

static void forget_one(fuse_ino_t ino, uint64_t count)
{
	struct inode *inode = node_of(ino);

	inode->lookups -= inode->lookups < count ? inode->lookups : count;
	end_if_unused(inode);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	pthread_rwlock_wrlock(&tree);
	forget_one(ino, count);
	pthread_rwlock_unlock(&tree);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	pthread_rwlock_wrlock(&tree);
	for (size_t i = 0; i < count; i++)
		forget_one(forgets[i].ino, forgets[i].nlookup);
	pthread_rwlock_unlock(&tree);
	fuse_reply_none(req);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		 const char *target, struct fuse_file_info *fi)
{
	int error = begin_make(parent, name);

	if (error != 0) {
		fuse_reply_err(req, error);
		return;
	}
	struct inode *inode = new_inode(fuse_req_ctx(req), node_of(parent), mode, rdev);
	if (target != NULL) {
		inode->target = strdup(target);
		inode->attr.st_size = strlen(target);
	}
	add_name(node_of(parent), name, inode);
	reply_new(req, inode, fi);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | mode, 0, NULL, NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target, NULL);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	make(req, parent, name, S_IFREG | mode, 0, NULL, fi);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	int error = begin_make(parent, name);

	if (error != 0) {
		fuse_reply_err(req, error);
		return;
	}
	struct inode *inode = node_of(ino);
	inode->attr.st_nlink++;
	touch(inode, false);
	add_name(node_of(parent), name, inode);
	reply_new(req, inode, NULL);
}

static void remove_entry(fuse_req_t req, fuse_ino_t parent, const char *name, bool directory)
{
	int error = 0;

	pthread_rwlock_wrlock(&tree);
	struct dentry *d = find(node_of(parent), name);
	if (d == NULL)
		error = ENOENT;
	else if (S_ISDIR(d->inode->attr.st_mode) != directory)
		error = directory ? ENOTDIR : EISDIR;
	else if (directory && d->inode->entries > 0)
		error = ENOTEMPTY;
	else {
		struct inode *inode = d->inode;
		remove_name(d);
		drop_link(inode);
	}
	pthread_rwlock_unlock(&tree);
	fuse_reply_err(req, error);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, false);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, true);
}

static int rename_locked(struct inode *from, const char *name, struct inode *to, const char *new_name, unsigned int flags)
{
	struct dentry *d = find(from, name), *other = find(to, new_name);

	if (d == NULL || ((flags & RENAME_EXCHANGE) != 0 && other == NULL))
		return ENOENT;
	if (other != NULL && (flags & RENAME_NOREPLACE) != 0)
		return EEXIST;
	struct inode *inode = d->inode, *old = other == NULL ? NULL : other->inode;
	if (inode == old)
		return 0;
	if (old != NULL && (flags & RENAME_EXCHANGE) == 0) {
		if (S_ISDIR(inode->attr.st_mode) != S_ISDIR(old->attr.st_mode))
			return S_ISDIR(old->attr.st_mode) ? EISDIR : ENOTDIR;
		if (old->entries > 0)
			return ENOTEMPTY;
	}
	remove_name(d);
	if (other != NULL)
		remove_name(other);
	add_name(to, new_name, inode);
	touch(inode, false);
	if ((flags & RENAME_EXCHANGE) != 0)
		add_name(from, name, old);
	else if (old != NULL)
		drop_link(old);
	return 0;
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned int flags)
{
	pthread_rwlock_wrlock(&tree);
	int error = (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 || strlen(new_name) > NAME_SIZE_MAX
			    ? EINVAL
			    : rename_locked(node_of(parent), name, node_of(new_parent), new_name, flags);
	pthread_rwlock_unlock(&tree);
	fuse_reply_err(req, error);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, node_of(ino)->target);
}

/* --- attributes ---------------------------------------------------------------------------- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);
	struct stat attr;

	(void)fi;
	pthread_rwlock_rdlock(&inode->lock);
	attr = inode->attr;
	pthread_rwlock_unlock(&inode->lock);
	fuse_reply_attr(req, &attr, TIMEOUT_S);
}

/* Bytes of a chunk that are there; the rest of it reads as zeroes. */
static size_t room_of(const struct inode *inode, size_t index)
{
	if (index >= inode->chunk_count || inode->chunks[index] == NULL)
		return 0;
	return index == 0 ? inode->first_size : CHUNK_SIZE;
}

/* Frees and zeroes what lies behind `size`. */
static void cut(struct inode *inode, off_t size)
{
	size_t keep = (size + CHUNK_SIZE - 1) / CHUNK_SIZE, at = size % CHUNK_SIZE;

	for (size_t i = keep; i < inode->chunk_count; i++) {
		inode->attr.st_blocks -= room_of(inode, i) / 512;
		free(inode->chunks[i]);
		inode->chunks[i] = NULL;
	}
	if (at != 0 && room_of(inode, keep - 1) > at)
		memset(inode->chunks[keep - 1] + at, 0, room_of(inode, keep - 1) - at);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);
	struct stat result;

	(void)fi;
	if ((to_set & FUSE_SET_ATTR_SIZE) != 0 && attr->st_size > FILE_SIZE_MAX) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	pthread_rwlock_wrlock(&inode->lock);
	touch(inode, (to_set & FUSE_SET_ATTR_SIZE) != 0);
	if ((to_set & FUSE_SET_ATTR_MODE) != 0)
		inode->attr.st_mode = (inode->attr.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if ((to_set & FUSE_SET_ATTR_UID) != 0)
		inode->attr.st_uid = attr->st_uid;
	if ((to_set & FUSE_SET_ATTR_GID) != 0)
		inode->attr.st_gid = attr->st_gid;
	if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
		if (attr->st_size < inode->attr.st_size)
			cut(inode, attr->st_size);
		inode->attr.st_size = attr->st_size;
	}
	if ((to_set & FUSE_SET_ATTR_ATIME) != 0)
		inode->attr.st_atim = (to_set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? now() : attr->st_atim;
	if ((to_set & FUSE_SET_ATTR_MTIME) != 0)
		inode->attr.st_mtim = (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? now() : attr->st_mtim;
	if ((to_set & FUSE_SET_ATTR_CTIME) != 0)
		inode->attr.st_ctim = attr->st_ctim;
	result = inode->attr;
	pthread_rwlock_unlock(&inode->lock);
	fuse_reply_attr(req, &result, TIMEOUT_S);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs s = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_SIZE_MAX };

	(void)ino;
	s.f_blocks = s.f_bfree = s.f_bavail = FILE_SIZE_MAX / 4096;
	s.f_files = s.f_ffree = s.f_favail = 1 << 24;
	fuse_reply_statfs(req, &s);
}

/* --- bytes --------------------------------------------------------------------------------- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);

	if ((fi->flags & O_TRUNC) != 0) {
		pthread_rwlock_wrlock(&inode->lock);
		cut(inode, 0);
		inode->attr.st_size = 0;
		touch(inode, true);
		pthread_rwlock_unlock(&inode->lock);
	}
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);
	struct iovec iov[IOV_COUNT];
	int count = 0;

	(void)fi;
	pthread_rwlock_rdlock(&inode->lock);
	if (offset >= inode->attr.st_size)
		size = 0;
	else if ((off_t)size > inode->attr.st_size - offset)
		size = inode->attr.st_size - offset;
	while (size > 0 && count < IOV_COUNT) {
		size_t index = offset / CHUNK_SIZE, at = offset % CHUNK_SIZE;
		size_t room = room_of(inode, index);
		size_t end = at < room ? room : CHUNK_SIZE;
		size_t length = size < end - at ? size : end - at;

		iov[count].iov_base = at < room ? inode->chunks[index] + at : (char *)zeroes;
		iov[count++].iov_len = length;
		offset += length;
		size -= length;
	}
	fuse_reply_iov(req, iov, count);
	pthread_rwlock_unlock(&inode->lock);
}

static bool make_room(struct inode *inode, off_t end)
{
	size_t needed = (end + CHUNK_SIZE - 1) / CHUNK_SIZE;

	if (needed > inode->chunk_count) {
		size_t count = inode->chunk_count * 2 > needed ? inode->chunk_count * 2 : needed;
		char **grown = realloc(inode->chunks, count * sizeof(*grown));

		if (grown == NULL)
			return false;
		memset(grown + inode->chunk_count, 0, (count - inode->chunk_count) * sizeof(*grown));
		inode->chunks = grown;
		inode->chunk_count = count;
	}
	return true;
}

/* Sees to it that `needed` bytes of a chunk are there. */
static bool make_chunk(struct inode *inode, size_t index, size_t needed)
{
	size_t room = room_of(inode, index), size = CHUNK_SIZE;

	if (room >= needed)
		return true;
	if (index == 0)
		for (size = FIRST_SIZE_MIN; size < needed;)
			size *= 2;
	char *grown = realloc(inode->chunks[index], size);
	if (grown == NULL)
		return false;
	memset(grown + room, 0, size - room);
	inode->chunks[index] = grown;
	inode->attr.st_blocks += (size - room) / 512;
	if (index == 0)
		inode->first_size = size;
	return true;
}

static int put(struct inode *inode, const char *from, size_t size, off_t offset)
{
	if (!make_room(inode, offset + size))
		return ENOSPC;
	while (size > 0) {
		size_t index = offset / CHUNK_SIZE, at = offset % CHUNK_SIZE;
		size_t length = size < CHUNK_SIZE - at ? size : CHUNK_SIZE - at;

		if (!make_chunk(inode, index, at + length))
			return ENOSPC;
		memcpy(inode->chunks[index] + at, from, length);
		from += length;
		offset += length;
		size -= length;
	}
	if (offset > inode->attr.st_size)
		inode->attr.st_size = offset;
	return 0;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *from, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);

	(void)fi;
	if (offset > FILE_SIZE_MAX - (off_t)size) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	pthread_rwlock_wrlock(&inode->lock);
	int error = put(inode, from, size, offset);
	touch(inode, true);
	pthread_rwlock_unlock(&inode->lock);
	if (error != 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_write(req, size);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);
	int error = 0;

	(void)fi;
	pthread_rwlock_wrlock(&inode->lock);
	if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0)
		error = EOPNOTSUPP;
	else if (offset > FILE_SIZE_MAX - length)
		error = EFBIG;
	else if (mode == 0 && offset + length > inode->attr.st_size)
		inode->attr.st_size = offset + length;
	pthread_rwlock_unlock(&inode->lock);
	fuse_reply_err(req, error);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino, (void)datasync, (void)fi;
	fuse_reply_err(req, 0);
}

/* --- directories --------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = node_of(ino);
	struct listing *l = allocate(sizeof(*l));

	pthread_rwlock_rdlock(&tree);
	l->names = allocate((inode->entries + 2) * sizeof(*l->names));
	l->names[l->count++] = strdup(".");
	l->names[l->count++] = strdup("..");
	for (struct dentry *d = inode->first; d != NULL; d = d->next)
		l->names[l->count++] = strdup(d->name);
	pthread_rwlock_unlock(&tree);
	fi->fh = (uintptr_t)l;
	fi->cache_readdir = 1;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

/* The inode behind a name of a listing, or NULL when it is gone. The caller holds the tree's lock. */
static struct inode *listed(struct inode *directory, const char *name, bool *dot)
{
	struct dentry *d;

	*dot = true;
	if (strcmp(name, ".") == 0)
		return directory;
	if (strcmp(name, "..") == 0)
		return directory->parent == NULL ? directory : directory->parent;
	*dot = false;
	d = find(directory, name);
	return d == NULL ? NULL : d->inode;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;
	char *buffer = allocate(size);
	size_t used = 0;

	pthread_rwlock_rdlock(&tree);
	for (size_t i = offset; i < l->count; i++) {
		struct fuse_entry_param e;
		bool dot;
		struct inode *inode = listed(node_of(ino), l->names[i], &dot);
		size_t length;

		if (inode == NULL)
			continue;
		fill_entry(inode, &e);
		if (plus) {
			if (dot)
				e.ino = 0;
			length = fuse_add_direntry_plus(req, buffer + used, size - used, l->names[i], &e, i + 1);
		} else {
			length = fuse_add_direntry(req, buffer + used, size - used, l->names[i], &e.attr, i + 1);
		}
		if (length > size - used)
			break;
		used += length;
		if (plus && !dot)
			__atomic_add_fetch(&inode->lookups, 1, __ATOMIC_RELAXED);
	}
	pthread_rwlock_unlock(&tree);
	fuse_reply_buf(req, buffer, used);
	free(buffer);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;

	(void)ino;
	for (size_t i = 0; i < l->count; i++)
		free(l->names[i]);
	free(l->names);
	free(l);
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
	.create = op_create,
	.fallocate = op_fallocate,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts options;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	const struct fuse_ctx owner = { .uid = getuid(), .gid = getgid() };
	int result = 1;

	if (fuse_parse_cmdline(&args, &options) != 0 || options.mountpoint == NULL) {
		fprintf(stderr, "usage: memfs_ll [-f] [-s] [-o OPTION,...] DIR\n");
		return 2;
	}
	grow_table();
	root = new_inode(&owner, NULL, S_IFDIR | 0755, 0);
	root->lookups = 1;
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (session != NULL && fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, options.mountpoint) == 0) {
		fuse_daemonize(options.foreground);
		fuse_loop_cfg_set_clone_fd(config, 0);
		result = options.singlethread ? fuse_session_loop(session) : fuse_session_loop_mt(session, config);
		fuse_session_unmount(session);
	}
	fuse_loop_cfg_destroy(config);
	return result == 0 ? 0 : 1;
}
