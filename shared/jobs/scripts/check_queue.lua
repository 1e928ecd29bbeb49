#!lua flags=allow-oom
-- Tell whether a tenant's next job has room in a queue, before anything is stored for it; create.lua checks it again.
-- Keys:    unfinished
-- In:      queue, max_queued, max_queued_per_tenant, tenant, bytes and pixels: of its image, as far as they are known,
--          quota_bytes, quota_pixels: as for create.lua
-- Out:     free | full | tenant_full (too many jobs of the tenant are in the queue) | quota_bytes | quota_pixels
-- Events:  none
return {find_full_queue(arg.queue, key.unfinished) or find_exceeded_quota() or 'free'}
