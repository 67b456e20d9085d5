/* attar.hpp - attar.h for C++11: handles that close themselves, errors as exceptions, threads for attar_exec. */
#ifndef ATTAR_HPP
#define ATTAR_HPP

#include "attar.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace attar {

/* A status that is not ATTAR_OK. */
class error : public std::runtime_error {
 public:
  error(attar_status status, const std::string &what) : std::runtime_error(what), status(status) {}
  const attar_status status;
};

inline void check(attar_status status) {
  if (status != ATTAR_OK) throw error(status, attar_status_str(status));
}

inline void check(attar_status status, const attar_error &detail) {
  if (status != ATTAR_OK) throw error(status, detail.msg[0] ? detail.msg : attar_status_str(status));
}

/* A struct of attar.h, all zero but for its size. */
template <class T>
T make() {
  T value = T();
  value.size = sizeof value;
  return value;
}

/* Threads to lend. They spin for a moment between the pieces of a token, then sleep. */
class threads {
 public:
  /* n threads work at once, the caller's included. */
  explicit threads(unsigned n = std::thread::hardware_concurrency()) : exec_(make<attar_exec>()) {
    exec_.n_workers = n == 0 ? 1 : n > 256 ? 256 : n;
    exec_.ctx = this;
    exec_.parallel_for = run;
    for (unsigned i = 1; i < exec_.n_workers; ++i) workers_.emplace_back([this] { work(); });
  }
  ~threads() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread &worker : workers_) worker.join();
  }
  threads(const threads &) = delete;
  threads &operator=(const threads &) = delete;
  /* For attar_config::exec; one session at a time. */
  const attar_exec *exec() const { return &exec_; }

 private:
  struct job {
    void (*fn)(void *, uint32_t);
    void *arg;
    uint32_t n;
  };
  static void run(void *ctx, uint32_t n, void (*fn)(void *, uint32_t), void *arg) {
    threads &self = *static_cast<threads *>(ctx);
    {
      std::lock_guard<std::mutex> lock(self.mutex_);
      self.job_ = job{fn, arg, n};
      self.next_ = 0;
      self.busy_ = static_cast<unsigned>(self.workers_.size());
      self.round_.fetch_add(1);
    }
    self.wake_.notify_all();
    self.take(self.job_);
    while (self.busy_.load() != 0) std::this_thread::yield(); /* nobody may still look at the job */
  }
  void take(const job &job) {
    for (uint32_t i; (i = next_.fetch_add(1)) < job.n;) job.fn(job.arg, i);
  }
  void work() {
    for (unsigned seen = 0;;) {
      for (int spins = 0; spins < 2000 && round_.load() == seen; ++spins) std::this_thread::yield();
      job current;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || round_.load() != seen; });
        if (stop_) return;
        seen = round_.load();
        current = job_;
      }
      take(current);
      busy_.fetch_sub(1);
    }
  }
  attar_exec exec_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  job job_ = job();
  std::atomic<uint32_t> next_{0};
  std::atomic<unsigned> busy_{0}, round_{0};
  bool stop_ = false;
};

/* A model; copies share it. */
class model {
 public:
  explicit model(const attar_source &source, const attar_config *config = nullptr) {
    attar_model *opened = nullptr;
    attar_error detail = make<attar_error>();
    check(attar_model_open(&source, config, nullptr, &opened, nullptr, nullptr, &detail), detail);
    handle_.reset(opened, attar_model_close);
  }
  attar_model *get() const { return handle_.get(); }

  std::vector<attar_token> tokenize(const std::string &text, uint32_t flags = 0) const {
    std::vector<attar_token> tokens(text.size() + 8);
    size_t n = tokens.size();
    attar_status status = attar_tokenize(get(), text.data(), text.size(), flags, nullptr, tokens.data(), &n);
    tokens.resize(n);
    if (status == ATTAR_E_SMALLBUF)
      status = attar_tokenize(get(), text.data(), text.size(), flags, nullptr, tokens.data(), &n);
    check(status);
    return tokens;
  }
  std::string detokenize(const std::vector<attar_token> &tokens, uint32_t flags = 0) const {
    size_t n = 0;
    attar_status status = attar_detokenize(get(), tokens.data(), tokens.size(), flags, nullptr, &n);
    if (status != ATTAR_E_SMALLBUF) check(status);
    std::string text(n, '\0');
    if (n != 0)
      check(attar_detokenize(get(), tokens.data(), tokens.size(), flags, reinterpret_cast<uint8_t *>(&text[0]), &n));
    return text;
  }

 private:
  std::shared_ptr<attar_model> handle_;
};

/* A session; it keeps its model open. */
class session {
 public:
  explicit session(const model &model, const attar_config *config = nullptr) : model_(model), handle_(nullptr, attar_session_close) {
    attar_session *opened = nullptr;
    attar_error detail = make<attar_error>();
    check(attar_session_open(model.get(), config, nullptr, &opened, &detail), detail);
    handle_.reset(opened);
  }
  attar_session *get() const { return handle_.get(); }

  void prefill(const std::vector<attar_token> &tokens) {
    check(attar_prefill(get(), tokens.data(), tokens.size(), nullptr));
  }
  /* Hands out text until something ends it; `each` returns false to stop and must not throw. */
  attar_result generate(attar_request request, const std::function<bool(const std::string &)> &each) {
    request.size = sizeof request;
    request.user = const_cast<void *>(static_cast<const void *>(&each));
    request.on_token = [](void *user, attar_token, const char *text, size_t n, const uint8_t *, size_t, float) -> int32_t {
      return (*static_cast<const std::function<bool(const std::string &)> *>(user))(std::string(text, n)) ? 0 : 1;
    };
    attar_result result = make<attar_result>();
    attar_error detail = make<attar_error>();
    attar_status status = attar_generate(get(), &request, &result, &detail);
    if (status != ATTAR_E_CANCELLED && status != ATTAR_E_CONTEXT_FULL) check(status, detail);
    return result;
  }
  void cancel() { attar_cancel(get()); }

 private:
  model model_;
  std::unique_ptr<attar_session, void (*)(attar_session *)> handle_;
};

}  // namespace attar
#endif
