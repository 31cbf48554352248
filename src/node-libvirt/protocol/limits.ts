// Owns the bounds of libvirt's wire types, as remote_protocol.x states them. A value over its bound is
// refused before it is sent, and a reply over it does not decode.

export const UUID_BYTES = 16
export const STRING_BYTES_MAX = 4_194_304

// Objects in one list reply. Above it even counting by listing fails.
export const DOMAINS_MAX = 16_384
export const CHECKPOINTS_MAX = 16_384
export const SNAPSHOTS_MAX = 16_384
export const NETWORKS_MAX = 16_384
export const NETWORK_PORTS_MAX = 16_384
export const INTERFACES_MAX = 16_384
export const STORAGE_POOLS_MAX = 16_384
export const STORAGE_VOLUMES_MAX = 16_384
export const NODE_DEVICES_MAX = 65_536
export const NODE_DEVICE_CAPABILITIES_MAX = 65_536
export const NWFILTERS_MAX = 16_384
export const NWFILTER_BINDINGS_MAX = 16_384
export const SECRETS_MAX = 16_384

// CPU maps: one bit a host CPU, lowest bit of the first byte first.
export const CPU_MAP_BYTES_MAX = 2_048
export const CPU_MAPS_BYTES_MAX = 8_388_608
export const VCPUS_MAX = 16_384
export const IO_THREADS_MAX = 16_384
export const CPU_BASELINE_INPUTS_MAX = 256
export const CPU_MODELS_MAX = 8_192

// Typed parameters in one call or reply.
export const SCHEDULER_PARAMETERS_MAX = 16
export const BLKIO_PARAMETERS_MAX = 16
export const MEMORY_PARAMETERS_MAX = 16
export const NUMA_PARAMETERS_MAX = 16
export const INTERFACE_PARAMETERS_MAX = 16
export const BLOCK_IO_TUNE_PARAMETERS_MAX = 32
export const BLOCK_COPY_PARAMETERS_MAX = 16
export const BLOCK_STATS_PARAMETERS_MAX = 16
export const CPU_STATS_PARAMETERS_MAX = 2_048
export const JOB_STATS_PARAMETERS_MAX = 64
export const PERF_EVENTS_MAX = 64
export const GUEST_VCPU_PARAMETERS_MAX = 64
export const GUEST_INFO_PARAMETERS_MAX = 2_048
export const IO_THREAD_PARAMETERS_MAX = 64
export const NETWORK_PORT_PARAMETERS_MAX = 16
export const NODE_MEMORY_PARAMETERS_MAX = 64
export const TUNABLE_PARAMETERS_MAX = 2_048
/** Typed parameters of one domain in the bulk statistics. */
export const DOMAIN_STATS_PARAMETERS_MAX = 262_144

// The host.
export const NODE_CELLS_MAX = 1_024
export const NODE_MODEL_CHARACTERS = 32
export const NODE_CPU_STATS_MAX = 16
export const NODE_MEMORY_STATS_MAX = 16
export const SECURITY_MODEL_CHARACTERS_MAX = 257
export const SECURITY_DOI_CHARACTERS_MAX = 257
export const SECURITY_LABEL_CHARACTERS_MAX = 4_097
export const SECURITY_LABELS_MAX = 64
export const AUTH_TYPES_MAX = 20

// The rest of a domain.
export const DOMAIN_MEMORY_STATS_MAX = 1_024
export const DISK_ERRORS_MAX = 256
export const DOMAIN_INTERFACES_MAX = 2_048
export const IP_ADDRESSES_MAX = 2_048
export const FREEZE_MOUNT_POINTS_MAX = 256
export const FILE_SYSTEMS_MAX = 256
export const FILE_SYSTEM_DISKS_MAX = 256
export const DOMAIN_MESSAGES_MAX = 2_048
export const DHCP_LEASES_MAX = 65_536
export const SECRET_VALUE_BYTES_MAX = 65_536
