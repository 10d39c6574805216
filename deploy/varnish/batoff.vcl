# Batoff Purge in Varnish 6.0 or newer, with varnish-modules (vmod_var, vmod_xkey); tested on Debian 12's 7.1.
#
# What it adds to a configuration:
#   * purges by URL and by tag, hard and soft, from the daemon alone: they come in by a listener of their own;
#   * a guard: an answer whose fetch began before a purge is not stored when it arrives after it;
#   * a fence: without the daemon's word that this node may serve, nothing is served from the cache.
# All of it costs a hit about 15 % more CPU (3 to 4 microseconds, of about 23), most of it for the lease (benches/varnish.rs).
#
# How to use it. Varnish gets a second listener, named `batoff`, that only the daemon can reach:
#
#   varnishd -a :6081 -a batoff=/run/batoff-varnish/purge.sock,HTTP,user=batoff,group=batoff,mode=600 …
#
# (or -a batoff=127.0.0.1:6091 where everybody on the machine may purge), and this file is included **behind** the
# rest, as in default.vcl beside it. Yours runs first then, and may rewrite Host and URL: purges are rewritten with it.
# What it must not do is `return` from the subroutines below, or what stands here never runs; `batoff-edge check
# varnish` finds that out. Do not put more than URL and host into vcl_hash: a purge would miss it. Variants belong into
# `Vary`, and all of them go with their URL.
#
# The only lines to change are the two paths in batoff_lease, if [caches.varnish] lease_dir is not the default.

vcl 4.1;

import purge;
import std;
import var;
import xkey;

sub vcl_recv {
    # One spelling of a hostname is one object.
    if (req.http.Host ~ "[A-Z]|:(?:80|443)$") {
        set req.http.Host = regsub(std.tolower(req.http.Host), ":(?:80|443)$", "");
    }
    unset req.http.Batoff-Normal;

    if (local.socket == "batoff") {
        call batoff_order;
    }
    if (req.method == "PURGE") {
        return (synth(405, "Purges come from the daemon"));
    }
}

# What the daemon asks for. Nothing else comes this way.
sub batoff_order {
    if (req.method != "PURGE") {
        return (synth(405, "This listener takes purges"));
    }
    # From here on, answers to fetches that have begun before are not stored.
    if (req.http.Batoff-Guard) {
        var.global_set("batoff:" + req.http.Batoff-Guard, req.http.Batoff-Value);
        return (synth(200, "Guarded"));
    }
    # Tags of one site: the names it goes by, each with the tag.
    if (req.http.Batoff-Keys) {
        if (req.http.Batoff-Soft) {
            set req.http.Batoff-Count = xkey.softpurge(req.http.Batoff-Keys);
        } else {
            set req.http.Batoff-Count = xkey.purge(req.http.Batoff-Keys);
        }
        return (synth(200, "Purged"));
    }
    # Is this file loaded, and has Varnish been restarted since the last time?
    if (req.http.Batoff-Probe) {
        set req.http.Batoff-Value = var.global_get("batoff probe");
        var.global_set("batoff probe", req.http.Batoff-Probe);
        return (synth(200, "Here"));
    }
    # A URL with all its variants.
    if (req.http.Batoff-Soft) {
        set req.hash_ignore_busy = true;
        return (hash);
    }
    return (purge);
}

sub vcl_hit {
    if (req.method == "PURGE") {
        set req.http.Batoff-Count = purge.soft(0s);
        return (synth(200, "Purged"));
    }
    call batoff_lease;
    # Stored before this file was loaded, or where a subroutine of yours returned before what is above or below.
    if (!obj.http.Batoff-Key) {
        return (pass);
    }
    # It will be fetched behind this request, which does not come through vcl_miss.
    if (obj.ttl <= 0s) {
        set req.http.Batoff-Normal = "yes";
    }
}

sub vcl_miss {
    if (req.method == "PURGE") {
        set req.http.Batoff-Count = purge.soft(0s);
        return (synth(200, "Purged"));
    }
    # A URL can be written in many ways, and Varnish takes each for another object. A purge names the one in normal form,
    # so any other is fetched and not stored: it could not be found again. That is: characters that have to be escaped,
    # escapes in lower case, escapes of characters that need none, and segments "." and "..". Asked here and not ahead of
    # the lookup: what is stored is in normal form.
    # Most need no closer look.
    if ((req.url !~ "^/[a-zA-Z0-9\-_~/=&]*+(?:\.[a-zA-Z0-9\-_~=&][a-zA-Z0-9\-_~/=&]*+)*+(?:\?[a-zA-Z0-9\-._~/=&]*+)?$"
            && (req.url !~ "^/(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@/\[\]|^]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]|[0189A-F][0-9A-F]))*(?:\?(?:[a-zA-Z0-9\-._~!$&()*+,;=:@/?\[\]|^`{}]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]|[0189A-F][0-9A-F]))*)?$"
                || req.url ~ "^[^?]*/\.\.?(?:[/?]|$)"))
        || req.url ~ "^.{7000}"
        || req.http.Host !~ "^(?:[a-z0-9_-]++\.)*+[a-z_][a-z0-9_-]*+(?::[1-9][0-9]{0,4})?$"
            && req.http.Host !~ "^(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9][0-9]|[0-9])(?:\.(?=[0-9])|(?=$|:))){4}(?::[1-9][0-9]{0,4})?$") {
        return (pass);
    }
    set req.http.Batoff-Normal = "yes";
}

# The daemon keeps a file for each tenth of a second that its lease covers (or `open`, on a node that serves without).
# Asked here, behind the lookup, so that a request that waited for another's fetch is asked after its wait.
# real2integer rounds, so without the half it would look a slot ahead.
sub batoff_lease {
    if (!std.file_exists("/run/batoff-varnish/lease/" + std.real2integer(std.time2real(now, 0.0) * 10.0 - 0.5, 0))
        && !std.file_exists("/run/batoff-varnish/lease/open")) {
        return (pass);
    }
}

sub vcl_synth {
    if (req.method == "PURGE" && local.socket == "batoff") {
        set resp.http.Batoff-VCL = "1";
        set resp.http.Batoff-Count = req.http.Batoff-Count;
        set resp.http.Batoff-Value = req.http.Batoff-Value;
        return (deliver);
    }
}

# The guard, as it was when the fetch began. Compared, not measured: a clock may be set back.
sub vcl_backend_fetch {
    if (bereq.http.Batoff-Normal) {
        var.set("batoff_guard", "since " + var.global_get("batoff:*") + " "
            + var.global_get("batoff:" + regsub(bereq.http.Host, ":.*", "")));
    }
    unset bereq.http.Batoff-Normal;
}

sub vcl_backend_response {
    if (var.get("batoff_guard") != "since " + var.global_get("batoff:*") + " "
        + var.global_get("batoff:" + regsub(bereq.http.Host, ":.*", ""))) {
        # Purged while it was fetched, or nobody noted when it began, or no purge could name it: for its visitor, and for
        # nobody else.
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
        set beresp.grace = 0s;
        set beresp.keep = 0s;
    }
    # What purges find it by: prefixes, hosts and sites by this,
    set beresp.http.Batoff-Key = bereq.http.Host + bereq.url;
    # and tags by their site's hostname and themselves, because another site's tag of the same name is another tag.
    unset beresp.http.xkey;
    if (beresp.http.Cache-Tag) {
        std.collect(beresp.http.Cache-Tag, ",");
        set beresp.http.xkey = regsuball(beresp.http.Cache-Tag, "[,\s]*([^,\s]+)[,\s]*",
            regsub(bereq.http.Host, ":.*", "") + "/\1 ");
    }
}

sub vcl_deliver {
    unset resp.http.Batoff-Key;
    unset resp.http.xkey;
    # Remove this line if a cache in front of this one purges by tag too.
    unset resp.http.Cache-Tag;
}
