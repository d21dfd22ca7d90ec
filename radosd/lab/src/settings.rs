//! `ceph.conf`: small, quick to start, and as safe as Ceph is.
//!
//! What is not obvious, and was measured: `objecter_tick_interval` and the heartbeat's times make a
//! dead OSD known in seconds, not in half a minute; short `paxos` times save a second at the start;
//! `osd_crush_chooseleaf_type = 0` lets copies lie on one host; insecure reclaim of global ids is
//! off, because with it on a client's address would be no identity.

use crate::Options;
use std::net::Ipv4Addr;
use std::path::Path;

/// Bytes of an OSD's disk, a sparse file.
const DISK: u64 = 8 << 30;

pub(crate) fn text(dir: &Path, address: Ipv4Addr, fsid: &str, options: &Options) -> String {
    let dir = dir.display();
    let (size, min_size) = (options.size(), options.min_size());
    format!(
        "\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = [v2:{address}:3300/0,v1:{address}:6789/0]
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {dir}/keyring
run_dir = {dir}/run
admin_socket = {dir}/run/$cluster-$name.$pid.asok
log_file = {dir}/log/$name.log
log_to_stderr = false
crash_dir = {dir}/run
osd_crush_chooseleaf_type = 0
osd_pool_default_size = {size}
osd_pool_default_min_size = {min_size}
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_memory_target = 939524096
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
ms_async_op_threads = 2
[mon]
public_addr = {address}
mon_data = {dir}/mon.a
mon_allow_pool_delete = true
mon_cluster_log_file = {dir}/log/cluster.log
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_osd_min_down_reporters = 1
mon_osd_down_out_interval = 600
mon_osd_full_ratio = .97
auth_allow_insecure_global_id_reclaim = false
mon_max_pg_per_osd = 1000
[osd]
public_addr = {address}
cluster_addr = {address}
osd_data = {dir}/osd.$id
keyring = {dir}/osd.$id/keyring
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = {DISK}
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
bdev_aio_poll_ms = 20
bluestore_fsck_on_mkfs = false
bluestore_fsck_on_mount = false
bluestore_bluefs_buffered_io = true
osd_crush_update_on_start = true
osd_class_load_list = *
osd_class_default_list = *
osd_heartbeat_interval = 1
osd_heartbeat_grace = 5
osd_mon_heartbeat_interval = 5
osd_scrub_load_threshold = 0
[client]
admin_socket =
objecter_tick_interval = 0.25
objecter_timeout = 0.5
rados_osd_op_timeout = 0
log_to_file = false
"
    )
}
