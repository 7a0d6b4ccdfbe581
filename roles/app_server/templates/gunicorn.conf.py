# {{ ansible_managed }}
from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {
        **UvicornWorker.CONFIG_KWARGS,
        "server_header": False,
        "timeout_graceful_shutdown": {{ app_server_stop_timeout }},
    }


bind = "{{ __app_server_address }}"
workers = {{ app_server_workers }}
worker_class = Worker
worker_tmp_dir = "/dev/shm"
# Longer than a load balancer keeps an idle connection, so that it never sends a request into one being closed.
keepalive = 75
graceful_timeout = {{ app_server_stop_timeout | int + 5 }}
forwarded_allow_ips = "{{ app_server_trusted_proxies | join(',') }}"
control_socket_disable = True
